// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/units.h"

#include <array>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

namespace blockmig {
namespace {

__extension__ using Wide = unsigned __int128;

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::uint64_t kThousand = 1000;
constexpr std::array<Unit, 20> kSizeUnits = {{
    {"", 1},
    {"b", 1},
    {"k", 1ULL << 10},
    {"kib", 1ULL << 10},
    {"kb", kThousand},
    {"m", 1ULL << 20},
    {"mib", 1ULL << 20},
    {"mb", kThousand* kThousand},
    {"g", 1ULL << 30},
    {"gib", 1ULL << 30},
    {"gb", kThousand* kThousand* kThousand},
    {"t", 1ULL << 40},
    {"tib", 1ULL << 40},
    {"tb", kThousand* kThousand* kThousand* kThousand},
    {"p", 1ULL << 50},
    {"pib", 1ULL << 50},
    {"pb", kThousand* kThousand* kThousand* kThousand* kThousand},
    {"e", 1ULL << 60},
    {"eib", 1ULL << 60},
    {"eb", kThousand* kThousand* kThousand* kThousand* kThousand* kThousand},
}};

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::array<Unit, 12> kTimeUnits = {{
    {"ns", 1},
    {"us", 1'000},
    {"µs", 1'000},
    {"ms", 1'000'000},
    {"s", kSecond},
    {"sec", kSecond},
    {"m", 60 * kSecond},
    {"min", 60 * kSecond},
    {"h", 3600 * kSecond},
    {"hour", 3600 * kSecond},
    {"hours", 3600 * kSecond},
    {"d", 86400 * kSecond},
}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// A decimal number before anything was multiplied: digits / 10^decimals.
struct Number {
  std::uint64_t digits = 0;
  std::uint64_t scale = 1;  ///< 10^decimals
  std::string unit;         ///< lower case
};

/// Splits "1.5 GiB" into number and unit; nothing if there is no number in front or it is too long.
std::optional<Number> read_number(std::string_view text) {
  Number number;
  std::size_t at = 0;
  bool fraction = false;
  std::size_t digits_seen = 0;
  for (; at < text.size() && (is_digit(text[at]) || (text[at] == '.' && !fraction)); ++at) {
    if (text[at] == '.') {
      if (digits_seen == 0 || at + 1 >= text.size() || !is_digit(text[at + 1])) return std::nullopt;
      fraction = true;
      continue;
    }
    ++digits_seen;
    const auto digit = static_cast<std::uint64_t>(text[at] - '0');
    if (__builtin_mul_overflow(number.digits, 10, &number.digits) ||
        __builtin_add_overflow(number.digits, digit, &number.digits) ||
        (fraction && __builtin_mul_overflow(number.scale, 10, &number.scale))) {
      return std::nullopt;
    }
  }
  if (digits_seen == 0) return std::nullopt;
  if (at < text.size() && text[at] == ' ') ++at;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    number.unit += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return number;
}

/// The number times its unit, rounded down; nothing if the unit is unknown or the product is too
/// large.
std::optional<std::uint64_t> in_base_unit(const Number& number, std::span<const Unit> units,
                                          std::uint64_t limit) {
  for (const Unit& unit : units) {
    if (unit.name != number.unit) continue;
    const Wide value = static_cast<Wide>(number.digits) * unit.factor / number.scale;
    if (value > limit) return std::nullopt;
    return static_cast<std::uint64_t>(value);
  }
  return std::nullopt;
}

Error invalid(std::string_view what, const std::string& text, std::string_view examples) {
  return Error(ErrorCode::kInvalid, std::string("invalid ") + std::string(what) + " '" + text +
                                        "': write it like " + std::string(examples));
}

std::optional<std::uint64_t> read_size(std::string_view text) {
  const auto number = read_number(text);
  if (!number) return std::nullopt;
  if (number->scale > 1 && number->unit.empty()) return std::nullopt;
  return in_base_unit(*number, kSizeUnits, std::numeric_limits<std::uint64_t>::max());
}

/// value / unit with one decimal, rounded to nearest; the decimal is left out when it is zero.
std::string one_decimal(std::uint64_t value, std::uint64_t unit) {
  const Wide tenths = (static_cast<Wide>(value) * 10 + unit / 2) / unit;
  const auto whole = static_cast<std::uint64_t>(tenths / 10);
  const auto tenth = static_cast<int>(tenths % 10);
  std::string text = std::to_string(whole);
  if (tenth != 0) text += "." + std::to_string(tenth);
  return text;
}

}  // namespace

Result<std::uint64_t> parse_size(const std::string& text) {
  if (const auto size = read_size(text)) return *size;
  return invalid("size", text, "4096, 64KiB or 1.5GiB, below 16 EiB");
}

Result<std::uint64_t> parse_rate(const std::string& text) {
  std::string_view size = text;
  if (size.ends_with("/s")) size.remove_suffix(2);
  if (const auto rate = read_size(size)) return *rate;
  return invalid("rate", text, "200MiB/s");
}

Result<std::chrono::nanoseconds> parse_duration(const std::string& text) {
  if (text == "0") return std::chrono::nanoseconds{0};
  if (const auto number = read_number(text)) {
    constexpr auto kLimit = static_cast<std::uint64_t>(std::chrono::nanoseconds::max().count());
    if (const auto count = in_base_unit(*number, kTimeUnits, kLimit)) {
      return std::chrono::nanoseconds{static_cast<std::int64_t>(*count)};
    }
  }
  return invalid("duration", text, "100ms, 5s or 30min, below 292 years");
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 7> kNames = {"B",   "KiB", "MiB", "GiB",
                                                      "TiB", "PiB", "EiB"};
  std::size_t power = 0;
  // One step further where rounding would print "1024": 1023.97 KiB is 1 MiB.
  while (power + 1 < kNames.size() &&
         bytes >= (1ULL << (10 * (power + 1))) - (power == 0 ? 0 : (1ULL << (10 * power)) / 20)) {
    ++power;
  }
  return one_decimal(bytes, 1ULL << (10 * power)) + " " + std::string(kNames[power]);
}

std::string format_rate(std::uint64_t bytes_per_second) {
  return format_bytes(bytes_per_second) + "/s";
}

std::string format_duration(std::chrono::nanoseconds duration) {
  const bool negative = duration.count() < 0;
  // Negated as unsigned: the most negative value has no positive counterpart.
  const auto raw = static_cast<std::uint64_t>(duration.count());
  const std::uint64_t count = negative ? 0 - raw : raw;
  std::string text;
  if (count < 1'000) {
    text = std::to_string(count) + " ns";
  } else if (count < 999'950) {
    text = one_decimal(count, 1'000) + " µs";
  } else if (count < 999'950'000) {
    text = one_decimal(count, 1'000'000) + " ms";
  } else if (count < 59'950'000'000) {
    text = one_decimal(count, kSecond) + " s";
  } else {
    const std::uint64_t seconds = (count + kSecond / 2) / kSecond;
    const bool hours = seconds >= 3600;
    const std::uint64_t large = hours ? seconds / 3600 : seconds / 60;
    const std::uint64_t small = hours ? seconds % 3600 / 60 : seconds % 60;
    text = std::to_string(large) + (hours ? " h" : " min");
    if (small != 0) text += " " + std::to_string(small) + (hours ? " min" : " s");
  }
  return negative ? "-" + text : text;
}

}  // namespace blockmig
