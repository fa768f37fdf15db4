// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/reopening.h"

#include <string>
#include <utility>

#include "blockmig/base/uri.h"
#include "blockmig/block/image_lock.h"
#include "blockmig/block/store_health.h"
#include "blockmig/io/event.h"
#include "blockmig/io/offload.h"

namespace blockmig {
namespace {

struct Flush {
  explicit Flush(IoLoop& loop) : answered(loop) {}
  Event answered;
  Status status;
};

Task<void> flush(std::shared_ptr<ServedDisk> disk, std::shared_ptr<Flush> asked) {
  asked->status = co_await disk->disk().flush();
  asked->answered.set();
}

/// Blocks.
Status check_place(const std::string& store_uri) {
  const Result<StoreUri> store = parse_store_uri(store_uri);
  if (!store.ok()) return store.error();
  if (store->kind != StoreUri::Kind::kFile) return {};
  const Result<bool> ours = is_locked_image(store->path);
  if (!ours.ok()) return ours.error();
  if (*ours) return {};
  return Error(ErrorCode::kPrecondition, store->path +
                                             " is not the image that is being served: it was "
                                             "moved away, and another one is in its place");
}

/// Null: its store says that it is in trouble, so nothing was asked.
Result<std::shared_ptr<Flush>> begin_flush(IoLoop& loop, TaskScope& flushes,
                                           const std::shared_ptr<ServedDisk>& disk) {
  const std::string trouble = trouble_of(disk->disk().store());
  if (!trouble.empty()) return Error(ErrorCode::kPrecondition, trouble);
  auto asked = std::make_shared<Flush>(loop);
  auto task = flush(disk, asked);
  flushes.spawn(std::move(task));
  return asked;
}

}  // namespace

Task<Status> check_reopening(IoLoop& loop, TaskScope& flushes,
                             std::vector<std::shared_ptr<ServedDisk>> disks, Duration patience) {
  const TimePoint deadline = loop.now() + patience;
  std::vector<std::shared_ptr<Flush>> asked;
  for (const auto& disk : disks) {
    Result<std::shared_ptr<Flush>> begun = begin_flush(loop, flushes, disk);
    if (!begun.ok()) co_return begun.error().with_context("disk '" + disk->name() + "'");
    asked.push_back(*std::move(begun));
  }
  for (std::size_t i = 0; i < disks.size(); ++i) {
    const std::string who = "disk '" + disks[i]->name() + "'";
    const bool answered = co_await asked[i]->answered.wait_until(deadline);
    if (!answered) {
      co_return Error(ErrorCode::kTimedOut,
                      who + ": its store does not answer: " + disks[i]->disk().store_uri());
    }
    if (!asked[i]->status.ok()) co_return asked[i]->status.error().with_context(who);
    const std::string uri = disks[i]->disk().store_uri();
    const Status there = co_await offload(loop, [&uri] { return check_place(uri); });
    if (!there.ok()) co_return there.error().with_context(who);
  }
  co_return Status();
}

}  // namespace blockmig
