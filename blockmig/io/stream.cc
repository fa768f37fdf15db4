// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/stream.h"

namespace blockmig {

Task<Status> read_exactly(Stream& stream, MutableBytes into) {
  while (!into.empty()) {
    const auto got = co_await stream.read_some(into);
    if (!got) co_return got.error();
    if (*got == 0) {
      co_return Error(ErrorCode::kDisconnected, stream.peer_name() + " closed the connection");
    }
    into = into.subspan(*got);
  }
  co_return Status();
}

}  // namespace blockmig
