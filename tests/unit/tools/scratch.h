// SPDX-License-Identifier: Apache-2.0
// A temporary folder that goes away with its test, and files in it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {

class Scratch final {
 public:
  const std::string& path() const { return folder_.path(); }
  std::string operator/(const std::string& name) const { return folder_ / name; }

  /// A file of `bytes` bytes: a pattern by offset, with a hole in the middle third.
  std::string image(const std::string& name, std::uint64_t bytes, char seed = 'a') const {
    const std::string file = folder_ / name;
    std::ofstream out(file, std::ios::binary);
    std::string data(bytes / 3, seed);
    for (std::size_t i = 0; i < data.size(); ++i)
      data[i] = static_cast<char>(seed + static_cast<int>(i % 61));
    out << data;
    out.seekp(static_cast<std::streamoff>(bytes - data.size()));
    out << data;
    return file;
  }

 private:
  TemporaryFolder folder_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace blockmig
