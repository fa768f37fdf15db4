// SPDX-License-Identifier: Apache-2.0
// Turning what was typed into values, with errors that name the option. Only for this folder's
// sources. Pure.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/base/units.h"

namespace blockmig {

inline Error usage(const std::string& text) { return Error(ErrorCode::kInvalid, text); }

/// Converts `text` by `parse` into `into` if it was given; the first error stays in `status`.
template <typename Value, typename Parse>
void take(Status& status, const char* option, const std::string& text, Value& into, Parse parse) {
  if (text.empty() || !status.ok()) return;
  auto value = parse(text);
  if (!value) {
    status = usage(std::string(option) + ": " + value.error().message());
    return;
  }
  into = *std::move(value);
}

template <typename Value>
Result<Value> parse_choice(const std::string& text,
                           const std::vector<std::pair<std::string_view, Value>>& choices) {
  std::string known;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  return usage("'" + text + "' is not one of: " + known);
}

inline Result<std::uint32_t> parse_size_32(const std::string& text) {
  const Result<std::uint64_t> size = parse_size(text);
  if (!size) return size.error();
  if (*size > std::numeric_limits<std::uint32_t>::max()) {
    return usage("'" + text + "' is too large");
  }
  return static_cast<std::uint32_t>(*size);
}

/// Slower than this nothing arrives: a unit was forgotten.
inline constexpr std::uint64_t kLeastRate = 1024;

/// A rate, or none: 0.
inline Result<std::uint64_t> parse_limit(const std::string& text) {
  if (text == "none" || text == "unlimited") return std::uint64_t{0};
  const Result<std::uint64_t> rate = parse_rate(text);
  if (!rate || *rate >= kLeastRate) return rate;
  if (*rate == 0) return usage("'" + text + "': say none, or 'blockmig pause' to hold a job");
  return usage("'" + text + "' is below 1KiB/s: is a unit missing, as in 200MiB/s?");
}

inline Result<std::uint32_t> parse_count(const std::string& text) {
  for (const char c : text) {
    if (c < '0' || c > '9') return usage("'" + text + "' is not a whole number");
  }
  return parse_size_32(text);
}

}  // namespace blockmig
