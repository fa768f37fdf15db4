// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/served_disk.h"

#include "blockmig/io/offload.h"
#include "tools/daemon/image_identity.h"

namespace blockmig {

Task<Status> ServedDisk::close() {
  const Status stopped = co_await disk_->stop();
  const std::string uri = disk_->store_uri();
  offload look(disk_->loop(), [&uri] { return image_identity(uri); });
  std::string identity = co_await look;
  // What a failed flush left behind is not known: then there is nothing to compare.
  if (!stopped.ok()) identity.clear();
  const Status recorded = co_await bitmaps_.close(std::move(identity));
  const Status closed = co_await disk_->close();
  if (!closed.ok()) co_return closed;
  co_return recorded;
}

}  // namespace blockmig
