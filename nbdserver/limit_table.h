// SPDX-License-Identifier: Apache-2.0
// The server's limits as a table: the one source of their names, defaults, ranges and meanings,
// for parsing, for help and for the documentation (a test compares README.md with it). Pure; any
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "blockmig/base/error.h"
#include "nbdserver/limits.h"

namespace blockmig {

enum class LimitUnit : std::uint8_t { kCount, kBytes, kTime };

struct LimitInfo {
  const char* name;
  LimitUnit unit;
  /// Smallest and largest value, in pieces, bytes or nanoseconds.
  std::uint64_t minimum;
  std::uint64_t maximum;
  const char* meaning;
  std::uint64_t (*get)(const NbdServerLimits& limits);
  void (*set)(NbdServerLimits& limits, std::uint64_t value);
};

std::span<const LimitInfo> limit_table();

/// `value` as people write it: "100", "64KiB", "10s". kInvalid: no such limit (the nearest name is
/// suggested), no such value, out of range.
Status set_limit(NbdServerLimits& limits, const std::string& name, const std::string& value);
/// "NAME=VALUE".
Status set_limit(NbdServerLimits& limits, const std::string& assignment);
/// kInvalid where two limits contradict each other.
Status check_limits(const NbdServerLimits& limits);

std::string format_limit(const LimitInfo& limit, std::uint64_t value);
/// A line per limit for people: name, value in `limits`, range, meaning.
std::string limits_text(const NbdServerLimits& limits);
/// The defaults as rows of a Markdown table.
std::string limits_markdown();

}  // namespace blockmig
