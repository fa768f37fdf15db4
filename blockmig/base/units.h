// SPDX-License-Identifier: Apache-2.0
// Quantities as people write and read them: "200MiB", "64k", "200MiB/s", "100ms".
//
// Reading: a decimal number, then a unit, with or without a space between; case does not matter
// except that a size's unit that ends in B without an i is decimal, as on a disk's box ("MB" =
// 10^6), and K, M, G, T, P, E alone and KiB, MiB, … are binary (2^10, 2^20, …). A fraction needs a
// unit and is rounded down. No sign, no exponent, no hexadecimal. Errors: kInvalid, naming the
// text. Pure functions; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "blockmig/base/error.h"

namespace blockmig {

/// Bytes: "4096", "64k", "200MiB", "1.5GiB", "10MB".
Result<std::uint64_t> parse_size(const std::string& text);
/// Bytes per second: a size with "/s" behind it; without it the same is meant.
Result<std::uint64_t> parse_rate(const std::string& text);
/// "100ms", "5s", "30min", "2h"; also ns, us, m, d. The unit is required, except for "0".
Result<std::chrono::nanoseconds> parse_duration(const std::string& text);

/// The largest binary unit of which it is at least one, one decimal where it is not whole: "1.5
/// GiB", "200 MiB", "512 B".
std::string format_bytes(std::uint64_t bytes);
/// The same with "/s".
std::string format_rate(std::uint64_t bytes_per_second);
/// "250 ns", "1.5 ms", "12.3 s", "2 min 5 s", "3 h 4 min"; a minus in front of a negative one.
std::string format_duration(std::chrono::nanoseconds duration);
/// Milliseconds, with their fraction, as reports show them.
constexpr double to_milliseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace blockmig
