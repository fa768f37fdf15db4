// SPDX-License-Identifier: Apache-2.0
// A small export with a bitmap, for the fuzz targets of the NBD server.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockmig/block/memory_device.h"
#include "nbdserver/export.h"

namespace blockmig::nbd {

class FuzzExport final : public Export {
 public:
  explicit FuzzExport(std::string name) : name_(std::move(name)), device_("memory", kSizeBytes) {
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
  std::vector<std::shared_ptr<Export>> list() override { return {disk_}; }
  std::shared_ptr<Export> find(std::string_view name) override {
    return name == disk_->name() || name.empty() ? disk_ : nullptr;
  }

 private:
  std::shared_ptr<Export> disk_ = std::make_shared<FuzzExport>("disk0");
};

}  // namespace blockmig::nbd
