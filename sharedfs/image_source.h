// SPDX-License-Identifier: Apache-2.0
// ImageSource: how a SharedImage reaches its image, again and again. FolderImage: a file in a
// folder, with its manifest beside it. Thread rule: the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class ImageSource {
 public:
  virtual ~ImageSource() = default;
  /// For messages: the path.
  virtual const std::string& name() const = 0;
  /// Opens the image read-only, as it is now. kMismatch: it is not the one that was meant.
  virtual Task<Result<std::unique_ptr<BlockDevice>>> open() = 0;
  /// Whether the image under that name is still the one that was meant: kMismatch, kNotFound …
  virtual Task<Status> check() = 0;
};

class FolderImage final : public ImageSource {
 public:
  struct Expected {
    std::uint64_t generation = 0;  ///< of the manifest
    std::uint64_t inode = 0;
    std::uint64_t size_bytes = 0;
    /// Not empty: later generations of this owner and epoch will do. They are its own doing, on its
    /// way back into the image; what it has nowhere else stays as it was.
    std::string owner{};
    std::uint64_t owner_epoch = 0;
  };
  /// Whether a manifest is the one that was meant.
  static bool is_meant(const Expected& expected, std::uint64_t generation, const std::string& owner,
                       std::uint64_t owner_epoch);

  FolderImage(IoLoop& loop, std::string path, Expected expected)
      : loop_(loop), path_(std::move(path)), expected_(expected) {}

  const std::string& name() const override { return path_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open() override;
  Task<Status> check() override;

 private:
  IoLoop& loop_;
  std::string path_;
  Expected expected_;
};

}  // namespace blockmig
