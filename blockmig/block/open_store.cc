// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/open_store.h"

#include <utility>

#include "blockmig/block/null_device.h"

namespace blockmig {
namespace {

Task<Result<std::unique_ptr<BlockDevice>>> open_nbd_store(IoLoop& loop, const StoreUri& uri,
                                                          const OpenStoreOptions& options) {
  NbdDeviceOptions nbd;
  nbd.read_only = options.read_only;
  nbd.connections = options.connections;
  auto device = co_await open_nbd_device(loop, uri.text, nbd);
  if (!device) co_return std::move(device);
  const std::uint64_t size = (*device)->info().size_bytes;
  if (size >= options.create_size_bytes) co_return std::move(device);
  const Status closed = co_await (*device)->close();
  (void)closed;  // nothing was written
  co_return Error(ErrorCode::kPrecondition, uri.text + ": has " + std::to_string(size) +
                                                " bytes, needed are " +
                                                std::to_string(options.create_size_bytes));
}

}  // namespace

Task<Result<std::unique_ptr<BlockDevice>>> open_store(IoLoop& loop, const StoreUri& uri,
                                                      const OpenStoreOptions& options) {
  if (uri.kind == StoreUri::Kind::kNbd) {
    auto device = co_await open_nbd_store(loop, uri, options);
    co_return std::move(device);
  }
  if (uri.kind == StoreUri::Kind::kNull) {
    if (uri.null_bytes < options.create_size_bytes) {
      co_return Error(ErrorCode::kPrecondition,
                      uri.text + ": needed are " + std::to_string(options.create_size_bytes));
    }
    std::unique_ptr<BlockDevice> null =
        std::make_unique<NullDevice>(uri.null_bytes, options.read_only);
    co_return std::move(null);
  }
  FileDeviceOptions file;
  file.read_only = options.read_only;
  file.create_size_bytes = options.create_size_bytes;
  file.cache = options.cache;
  file.inline_io = options.inline_io;
  auto device = co_await open_file_device(loop, uri.path, file);
  co_return std::move(device);
}

}  // namespace blockmig
