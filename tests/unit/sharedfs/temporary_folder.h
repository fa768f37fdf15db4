// SPDX-License-Identifier: Apache-2.0
// A folder that goes when the test does.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace blockmig {

class TemporaryFolder final {
 public:
  TemporaryFolder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "blockmig-sharedfs-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace blockmig
