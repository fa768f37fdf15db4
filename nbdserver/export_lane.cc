// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/export_lane.h"

#include <utility>

#include "blockmig/io/call_on.h"
#include "blockmig/io/task_scope.h"

namespace blockmig::nbd {
namespace {

class HomeLane final : public ExportLane {
 public:
  explicit HomeLane(Export& disk) : disk_(disk) {}

  const std::string& name() const override { return disk_.name(); }
  BlockDevice& device() override { return disk_.device(); }
  Task<Result<Runs>> bitmap_runs(const std::string& bitmap, ByteRange range,
                                 std::size_t max_runs) override;
  Task<Result<Runs>> absent_runs(ByteRange range, std::size_t max_runs) override;

 private:
  Export& disk_;
};

Task<Result<ExportLane::Runs>> HomeLane::bitmap_runs(const std::string& bitmap, ByteRange range,
                                                     std::size_t max_runs) {
  const DirtyBitmap* found = disk_.find_bitmap(bitmap);
  if (found == nullptr) co_return Error(ErrorCode::kIo, "the bitmap " + bitmap + " is gone");
  co_return found->runs(range.offset, range.length, max_runs);
}

Task<Result<ExportLane::Runs>> HomeLane::absent_runs(ByteRange range, std::size_t max_runs) {
  co_return disk_.absent_runs(range, max_runs);
}

class RemoteLane final : public ExportLane {
 public:
  RemoteLane(Export& disk, std::shared_ptr<BlockDevice> device, EventLoop& home, EventLoop& own)
      : at_home_(disk), device_(std::move(device)), home_(home), own_(own) {}

  const std::string& name() const override { return at_home_.name(); }
  BlockDevice& device() override { return *device_; }
  Task<Result<Runs>> bitmap_runs(const std::string& bitmap, ByteRange range,
                                 std::size_t max_runs) override;
  Task<Result<Runs>> absent_runs(ByteRange range, std::size_t max_runs) override;

 private:
  HomeLane at_home_;
  std::shared_ptr<BlockDevice> device_;
  EventLoop& home_;
  EventLoop& own_;
  TaskScope calls_;  ///< used at home only
};

Task<Result<ExportLane::Runs>> RemoteLane::bitmap_runs(const std::string& bitmap, ByteRange range,
                                                       std::size_t max_runs) {
  auto runs = co_await call_on(own_, home_, calls_, [this, &bitmap, range, max_runs] {
    return at_home_.bitmap_runs(bitmap, range, max_runs);
  });
  co_return runs;
}

Task<Result<ExportLane::Runs>> RemoteLane::absent_runs(ByteRange range, std::size_t max_runs) {
  auto runs = co_await call_on(own_, home_, calls_, [this, range, max_runs] {
    return at_home_.absent_runs(range, max_runs);
  });
  co_return runs;
}

}  // namespace

std::unique_ptr<ExportLane> make_home_lane(Export& disk) {
  return std::make_unique<HomeLane>(disk);
}

std::unique_ptr<ExportLane> make_remote_lane(Export& disk, EventLoop& home, EventLoop& other) {
  std::shared_ptr<BlockDevice> device = disk.open_lane(other);
  if (device == nullptr) return nullptr;
  return std::make_unique<RemoteLane>(disk, std::move(device), home, other);
}

}  // namespace blockmig::nbd
