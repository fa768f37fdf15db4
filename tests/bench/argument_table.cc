// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/argument_table.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace blockmig::bench {
namespace {

constexpr double kLargestNumber = 1e15;

bool parse_number(const std::string& text, double* out) {
  double factor = 1;
  std::string digits = text;
  if (!digits.empty()) {
    const char last = digits.back();
    if (last == 'k') factor = 1024;
    if (last == 'M') factor = 1024.0 * 1024;
    if (last == 'G') factor = 1024.0 * 1024 * 1024;
    if (factor > 1) digits.pop_back();
  }
  double value = 0;
  const char* end = digits.data() + digits.size();
  const auto r = std::from_chars(digits.data(), end, value);
  if (r.ec != std::errc() || r.ptr != end || value < 0 || value > kLargestNumber) return false;
  *out = value * factor;
  return true;
}

}  // namespace

Status ArgumentTable::parse(int argc, char** argv, const char* usage) const {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--help") {
      std::fputs(usage, stdout);
      std::exit(0);
    }
    if (const auto flag = flags_.find(name); flag != flags_.end()) {
      *flag->second = true;
      continue;
    }
    const auto text = texts_.find(name);
    const auto number = numbers_.find(name);
    if (text == texts_.end() && number == numbers_.end()) {
      return Error(ErrorCode::kInvalid, "unknown option '" + name + "'");
    }
    if (i + 1 == argc) return Error(ErrorCode::kInvalid, "'" + name + "' wants a value");
    const std::string value = argv[++i];
    if (text != texts_.end()) {
      *text->second = value;
    } else if (!parse_number(value, number->second)) {
      return Error(ErrorCode::kInvalid, name + ": '" + value + "' is no number");
    }
  }
  return {};
}

}  // namespace blockmig::bench
