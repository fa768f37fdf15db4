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

struct Answer {
  explicit Answer(IoLoop& own_loop) : loop(own_loop), answered(own_loop) {}
  IoLoop& loop;
  Event answered;
  Status status;
};

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

/// Either may hang.
Task<void> ask_store(std::shared_ptr<ServedDisk> disk, std::shared_ptr<Answer> asked) {
  asked->status = co_await disk->disk().flush();
  if (asked->status.ok()) {
    const std::string uri = disk->disk().store_uri();
    asked->status = co_await offload(asked->loop, [&uri] { return check_place(uri); });
  }
  asked->answered.set();
}

/// Its store says that it is in trouble: then nothing is asked.
Result<std::shared_ptr<Answer>> begin_asking(IoLoop& loop, TaskScope& asking,
                                             const std::shared_ptr<ServedDisk>& disk) {
  const std::string trouble = trouble_of(disk->disk().store());
  if (!trouble.empty()) {
    return Error(ErrorCode::kPrecondition, trouble + ": put that right, or 'blockmig detach " +
                                               disk->name() + "', and replace it then");
  }
  auto asked = std::make_shared<Answer>(loop);
  auto task = ask_store(disk, asked);
  asking.spawn(std::move(task));
  return asked;
}

}  // namespace

Task<Status> check_reopening(IoLoop& loop, TaskScope& asking,
                             std::vector<std::shared_ptr<ServedDisk>> disks, Duration patience) {
  const TimePoint deadline = loop.now() + patience;
  std::vector<std::shared_ptr<Answer>> asked;
  for (const auto& disk : disks) {
    Result<std::shared_ptr<Answer>> begun = begin_asking(loop, asking, disk);
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
  }
  co_return Status();
}

}  // namespace blockmig
