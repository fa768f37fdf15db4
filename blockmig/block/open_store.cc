// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/open_store.h"

#include <utility>

#include "blockmig/block/null_device.h"

namespace blockmig {
Task<Result<std::unique_ptr<BlockDevice>>> open_store(IoLoop& loop, const StoreUri& uri,
                                                      const OpenStoreOptions& options) {
  switch (uri.kind) {
    case StoreUri::Kind::kFile: {
      auto file = co_await open_file_device(loop, uri.path, options.file);
      co_return std::move(file);
    }
    case StoreUri::Kind::kNbd: {
      auto remote = co_await open_nbd_device(loop, uri.text, options.nbd);
      co_return std::move(remote);
    }
    case StoreUri::Kind::kNull:
      break;
  }
  if (uri.null_bytes < options.file.create_size_bytes) {
    co_return Error(ErrorCode::kPrecondition,
                    uri.text + ": needed are " + std::to_string(options.file.create_size_bytes));
  }
  std::unique_ptr<BlockDevice> null =
      std::make_unique<NullDevice>(uri.null_bytes, options.file.read_only);
  co_return std::move(null);
}

}  // namespace blockmig
