// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/io_loop.h"

#include "blockmig/io/portable_loop.h"
#include "blockmig/io/uring_loop.h"

namespace blockmig {

Result<std::unique_ptr<IoLoop>> make_io_loop(const IoLoopOptions& options) {
  switch (options.kind) {
    case LoopKind::kUring:
      return make_uring_loop(options);
    case LoopKind::kPortable:
      return make_portable_loop(options);
    case LoopKind::kAuto:
      break;
  }
  auto uring = make_uring_loop(options);
  if (uring) return uring;
  return make_portable_loop(options);
}

}  // namespace blockmig
