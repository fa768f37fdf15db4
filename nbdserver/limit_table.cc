// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/limit_table.h"

#include <algorithm>
#include <array>
#include <vector>

#include "blockmig/base/nearest_name.h"
#include "blockmig/base/units.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kKi = 1024;
constexpr std::uint64_t kMi = kKi * kKi;
constexpr std::uint64_t kGi = kKi * kMi;
constexpr std::uint64_t kMilli = 1'000'000;
constexpr std::uint64_t kSecond = 1000 * kMilli;
constexpr std::uint64_t kHour = 3600 * kSecond;

template <auto Member>
std::uint64_t get(const NbdServerLimits& limits) {
  return static_cast<std::uint64_t>(limits.*Member);
}
template <auto Member>
std::uint64_t get_time(const NbdServerLimits& limits) {
  return static_cast<std::uint64_t>((limits.*Member).count());
}
template <auto Member>
void set(NbdServerLimits& limits, std::uint64_t value) {
  limits.*Member = static_cast<std::remove_reference_t<decltype(limits.*Member)>>(value);
}
template <auto Member>
void set_time(NbdServerLimits& limits, std::uint64_t value) {
  limits.*Member = Duration(static_cast<Duration::rep>(value));
}

template <auto Member>
constexpr LimitInfo count(const char* name, std::uint64_t minimum, std::uint64_t maximum,
                          const char* meaning) {
  return {name, LimitUnit::kCount, minimum, maximum, meaning, get<Member>, set<Member>};
}
template <auto Member>
constexpr LimitInfo bytes(const char* name, std::uint64_t minimum, std::uint64_t maximum,
                          const char* meaning) {
  return {name, LimitUnit::kBytes, minimum, maximum, meaning, get<Member>, set<Member>};
}
template <auto Member>
constexpr LimitInfo time(const char* name, std::uint64_t minimum, std::uint64_t maximum,
                         const char* meaning) {
  return {name, LimitUnit::kTime, minimum, maximum, meaning, get_time<Member>, set_time<Member>};
}

using Limits = NbdServerLimits;

constexpr std::array kTable = {
    count<&Limits::max_connections>(
        "connections", 1, 1'000'000,
        "clients at a time; fewer where the system lets few files be open"),
    count<&Limits::max_connections_per_peer>(
        "connections-per-peer", 1, 1'000'000,
        "clients at a time of one user (unix), host (tcp) or guest (vsock)"),
    time<&Limits::handshake_timeout>("handshake-time", kMilli, 24 * kHour,
                                     "until a client has chosen its export"),
    bytes<&Limits::max_handshake_bytes>("handshake-bytes", kKi, 16 * kMi,
                                        "looked at before a client has chosen its export: headers, "
                                        "and data of options that are served"),
    bytes<&Limits::max_skipped_bytes>(
        "skipped-bytes", kKi, kGi,
        "data of refused options that is received and thrown away in one negotiation"),
    count<&Limits::max_options>(
        "options", 1, 65536,
        "options of one negotiation, beside looks at exports that LIST has shown"),
    bytes<&Limits::max_option_bytes>("option-bytes", 64, 8448, "data of one option"),
    bytes<&Limits::max_name_bytes>("name-bytes", 1, 4096, "name of an export or metadata context"),
    count<&Limits::max_listed_exports>("exports-listed", 1, 10'000'000,
                                       "exports that LIST shows; a longer list is refused"),
    bytes<&Limits::max_request_bytes>("request-bytes", 64 * kKi, kGi,
                                      "payload of one request that is taken"),
    bytes<&Limits::advertised_max_bytes>("advertised-bytes", 64 * kKi, kGi,
                                         "payload of one request that clients are told of"),
    count<&Limits::max_in_flight_requests>("requests-in-flight", 1, 1'000'000,
                                           "of one client; it waits with the next one"),
    bytes<&Limits::max_in_flight_bytes>("bytes-in-flight", 64 * kKi, 64 * kGi,
                                        "of one client, requests and replies"),
    bytes<&Limits::max_total_in_flight_bytes>(
        "total-bytes-in-flight", kMi, 1024 * kGi,
        "of all clients together, beyond the first 64 KiB of each"),
    time<&Limits::stall_timeout>("stall-time", 10 * kMilli, 24 * kHour,
                                 "a client that keeps memory which others wait for, and neither "
                                 "reads nor sends, is cut after it"),
    time<&Limits::keepalive_time>("keepalive-time", kSecond, 9 * kHour,
                                  "a tcp client that is silent so long is asked three times, a "
                                  "third of it apart, whether it is there, and cut if it is not"),
};

Error invalid(const std::string& text) { return Error(ErrorCode::kInvalid, text); }

Result<std::uint64_t> parse_value(LimitUnit unit, const std::string& text) {
  switch (unit) {
    case LimitUnit::kBytes:
      return parse_size(text);
    case LimitUnit::kTime: {
      const auto duration = parse_duration(text);
      if (!duration) return duration.error();
      return static_cast<std::uint64_t>(duration->count());
    }
    case LimitUnit::kCount:
      break;
  }
  const bool digits =
      !text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == text.npos;
  if (!digits) return invalid("'" + text + "' is not a whole number");
  return std::stoull(text);
}

const LimitInfo* find(const std::string& name) {
  for (const LimitInfo& limit : kTable) {
    if (name == limit.name) return &limit;
  }
  return nullptr;
}

std::string range_text(const LimitInfo& limit) {
  return format_limit(limit, limit.minimum) + " to " + format_limit(limit, limit.maximum);
}

}  // namespace

std::span<const LimitInfo> limit_table() { return kTable; }

Status set_limit(NbdServerLimits& limits, const std::string& name, const std::string& value) {
  const LimitInfo* limit = find(name);
  if (limit == nullptr) {
    std::vector<std::string> names;
    for (const LimitInfo& each : kTable) names.emplace_back(each.name);
    return invalid("there is no limit '" + name + "'" + did_you_mean(name, names));
  }
  const Result<std::uint64_t> parsed = parse_value(limit->unit, value);
  if (!parsed) return parsed.error().with_context(name);
  if (*parsed < limit->minimum || *parsed > limit->maximum) {
    return invalid(name + ": '" + value + "' is out of range: " + range_text(*limit));
  }
  limit->set(limits, *parsed);
  return {};
}

Status set_limit(NbdServerLimits& limits, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return invalid("'" + assignment + "' is not NAME=VALUE");
  }
  return set_limit(limits, assignment.substr(0, equals), assignment.substr(equals + 1));
}

Status check_limits(const NbdServerLimits& limits) {
  if (limits.advertised_max_bytes > limits.max_request_bytes) {
    return invalid(
        "advertised-bytes is more than request-bytes: clients would be told to send "
        "what is then refused");
  }
  if (limits.max_name_bytes + 64 > limits.max_option_bytes) {
    return invalid("option-bytes has no room for a name of name-bytes and 64 bytes more");
  }
  return {};
}

std::string format_limit(const LimitInfo& limit, std::uint64_t value) {
  switch (limit.unit) {
    case LimitUnit::kBytes:
      return value % kKi == 0 ? format_bytes(value) : std::to_string(value) + " B";
    case LimitUnit::kTime:
      return format_duration(std::chrono::nanoseconds(value));
    case LimitUnit::kCount:
      break;
  }
  return std::to_string(value);
}

std::string limits_text(const NbdServerLimits& limits) {
  std::size_t name_width = 0;
  std::size_t value_width = 0;
  for (const LimitInfo& limit : kTable) {
    name_width = std::max(name_width, std::string(limit.name).size());
    value_width = std::max(value_width, format_limit(limit, limit.get(limits)).size());
  }
  std::string text;
  for (const LimitInfo& limit : kTable) {
    const std::string name = limit.name;
    const std::string value = format_limit(limit, limit.get(limits));
    text += name + std::string(name_width - name.size() + 2, ' ') + value +
            std::string(value_width - value.size() + 2, ' ') + limit.meaning + " (" +
            range_text(limit) + ")\n";
  }
  return text;
}

std::string limits_markdown() {
  const NbdServerLimits defaults;
  std::string text;
  for (const LimitInfo& limit : kTable) {
    text += "| `" + std::string(limit.name) + "` | " + format_limit(limit, limit.get(defaults)) +
            " | " + range_text(limit) + " | " + limit.meaning + " |\n";
  }
  return text;
}

}  // namespace blockmig
