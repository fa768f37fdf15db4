// SPDX-License-Identifier: Apache-2.0
// A temporary folder that goes away with its test, and files in it.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace blockmig {

class Scratch final {
 public:
  Scratch() {
    std::string pattern = std::filesystem::temp_directory_path().string() + "/bm-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  /// A file of `bytes` bytes: a pattern by offset, with a hole in the middle third.
  std::string image(const std::string& name, std::uint64_t bytes, char seed = 'a') const {
    const std::string file = path_ + "/" + name;
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
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace blockmig
