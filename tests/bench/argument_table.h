// SPDX-License-Identifier: Apache-2.0
// ArgumentTable: command lines of the load generators, `--name value` and `--flag`.
#pragma once

#include <map>
#include <string>

#include "blockmig/base/error.h"

namespace blockmig::bench {

class ArgumentTable {
 public:
  /// The pointers must live until parse() returned. Numbers take the suffixes k, M, G (1024).
  void text(const std::string& name, std::string* out) { texts_[name] = out; }
  void number(const std::string& name, double* out) { numbers_[name] = out; }
  void flag(const std::string& name, bool* out) { flags_[name] = out; }

  /// kInvalid with a sentence that names the argument. --help prints `usage` and exits 0.
  Status parse(int argc, char** argv, const char* usage) const;

 private:
  std::map<std::string, std::string*> texts_;
  std::map<std::string, double*> numbers_;
  std::map<std::string, bool*> flags_;
};

}  // namespace blockmig::bench
