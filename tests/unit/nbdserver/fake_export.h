// SPDX-License-Identifier: Apache-2.0
// Exports and a directory for tests: values that a test sets as it likes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/block/memory_device.h"
#include "nbdserver/export.h"

namespace blockmig::nbd {

class FakeExport final : public Export {
 public:
  FakeExport(std::string name, BlockDevice& device) : name_(std::move(name)), device_(device) {}

  const std::string& name() const override { return name_; }
  const std::string& description() const override { return description_; }
  bool read_only() const override { return read_only_; }
  BlockDevice& device() override { return device_; }
  std::vector<std::string> bitmap_names() const override {
    std::vector<std::string> names;
    for (const auto& [bitmap, content] : bitmaps_) names.push_back(bitmap);
    return names;
  }
  const DirtyBitmap* find_bitmap(std::string_view bitmap) const override {
    const auto found = bitmaps_.find(std::string(bitmap));
    return found == bitmaps_.end() ? nullptr : found->second.get();
  }

  DirtyBitmap& add_bitmap(const std::string& bitmap, std::uint32_t granularity) {
    auto created = DirtyBitmap::create(device_.info().size_bytes, granularity);
    return *(bitmaps_[bitmap] = std::move(*created));
  }
  void drop_bitmap(const std::string& bitmap) { bitmaps_.erase(bitmap); }

  std::vector<DirtyBitmap::Run> absent_runs(ByteRange range, std::size_t max_runs) const override {
    return absent_.empty() ? Export::absent_runs(range, max_runs) : absent_;
  }
  Identities identities() const override { return identities_; }
  std::shared_ptr<BlockDevice> open_lane(EventLoop& other) override {
    return open_lane_ ? open_lane_(other) : nullptr;
  }

  std::string description_;
  Identities identities_;
  bool read_only_ = false;
  std::vector<DirtyBitmap::Run> absent_;  ///< from offset 0 on; empty: all is here
  std::function<std::shared_ptr<BlockDevice>(EventLoop&)> open_lane_;

 private:
  std::string name_;
  BlockDevice& device_;
  std::map<std::string, std::unique_ptr<DirtyBitmap>> bitmaps_;
};

class FakeDirectory final : public ExportDirectory {
 public:
  std::vector<std::shared_ptr<Export>> list() override { return exports_; }
  std::shared_ptr<Export> find(std::string_view name) override {
    if (name.empty() && exports_.size() == 1) return exports_.front();
    for (const auto& disk : exports_) {
      if (disk->name() == name) return disk;
    }
    return nullptr;
  }
  bool is_late(std::string_view name) override { return !late_.empty() && name == late_; }

  std::vector<std::shared_ptr<Export>> exports_;
  std::string late_;
};

}  // namespace blockmig::nbd
