// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/served_disk.h"

#include "blockmig/io/offload.h"
#include "tools/daemon/closed_move.h"
#include "tools/daemon/image_identity.h"

namespace blockmig {
namespace {

Task<std::string> identity_of(EventLoop& loop, std::string uri) {
  offload look(loop, [&uri] { return image_identity(uri); });
  std::string identity = co_await look;
  co_return identity;
}

}  // namespace

Task<Status> ServedDisk::close() {
  const Status stopped = co_await disk_->stop();
  std::string identity = co_await identity_of(disk_->loop(), disk_->store_uri());
  // What a failed flush left behind is not known: then there is nothing to compare.
  if (!stopped.ok()) identity.clear();
  const Status noted = co_await note_suspended_move(identity);
  const Status recorded = co_await bitmaps_.close(std::move(identity));
  const Status closed = co_await disk_->close();
  if (!closed.ok()) co_return closed;
  co_return noted.ok() ? recorded : noted;
}

Task<Status> ServedDisk::note_suspended_move(std::string source_identity) {
  if (!suspended_target_) co_return Status();
  ClosedMove move;
  move.source = std::move(source_identity);
  // What an earlier daemon has left, and this one has not compared yet, is still to be compared.
  const auto before = co_await load_closed_move(journal_, name());
  if (before.ok() && before->has_value()) {
    move.target = (*before)->target;
  } else {
    move.target = co_await identity_of(disk_->loop(), *suspended_target_);
  }
  const Status noted = co_await save_closed_move(journal_, name(), std::move(move));
  if (noted.ok()) co_return noted;
  // Without the note a restart would take the end for a crash, and believe.
  const Status distrusted = co_await journal_.distrust_sets();
  co_return distrusted.ok() ? distrusted : noted;
}

}  // namespace blockmig
