// SPDX-License-Identifier: Apache-2.0
// Small exports with a bitmap, for the fuzz targets of the NBD server: "disk0", of any byte, and
// "sectors", whose requests are in whole sectors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockmig/block/memory_device.h"
#include "nbdserver/export.h"

namespace blockmig::nbd {

class FuzzExport final : public Export {
 public:
  FuzzExport(std::string name, std::uint32_t min_io_bytes)
      : name_(std::move(name)), device_("memory", kSizeBytes) {
    device_.mutable_info().min_io_bytes = min_io_bytes;
    auto made = DirtyBitmap::create(kSizeBytes, kMinGranularityBytes);
    bitmap_ = std::move(*made);
    bitmap_->mark(8192, 1);
  }
  static constexpr std::uint64_t kSizeBytes = 300 * 1000;

  const std::string& name() const override { return name_; }
  const std::string& description() const override { return description_; }
  bool read_only() const override { return false; }
  BlockDevice& device() override { return device_; }
  std::vector<std::string> bitmap_names() const override { return {"b0"}; }
  const DirtyBitmap* find_bitmap(std::string_view bitmap) const override {
    return bitmap == "b0" ? bitmap_.get() : nullptr;
  }

 private:
  std::string name_;
  std::string description_ = "for fuzzing";
  MemoryDevice device_;
  std::unique_ptr<DirtyBitmap> bitmap_;
};

class FuzzDirectory final : public ExportDirectory {
 public:
  std::vector<std::shared_ptr<Export>> list() override { return {disk_, sectors_}; }
  std::shared_ptr<Export> find(std::string_view name) override {
    if (name == sectors_->name()) return sectors_;
    return name == disk_->name() || name.empty() ? disk_ : nullptr;
  }

 private:
  std::shared_ptr<Export> disk_ = std::make_shared<FuzzExport>("disk0", 1);
  std::shared_ptr<Export> sectors_ = std::make_shared<FuzzExport>("sectors", 512);
};

}  // namespace blockmig::nbd
