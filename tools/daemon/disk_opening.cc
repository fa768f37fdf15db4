// SPDX-License-Identifier: Apache-2.0
// How DiskService opens the store that a disk is served from.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "blockmig/block/file_device.h"
#include "blockmig/block/nbd_device.h"
#include "blockmig/block/open_store.h"
#include "blockmig/block/reconnecting_device.h"
#include "blockmig/io/offload.h"
#include "tools/daemon/clipped_device.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/image_format.h"

namespace blockmig {
namespace {

/// Shorter than the control socket's own bound, so that the caller hears why.
constexpr Duration kSourceConnectTimeout = std::chrono::seconds(4);

/// A regular file has the size that it has; block devices and exports come in round sizes.
bool is_regular_file(const std::string& path) {
  struct stat facts {};
  return stat(path.c_str(), &facts) == 0 && S_ISREG(facts.st_mode);
}

}  // namespace

Task<Result<std::unique_ptr<BlockDevice>>> DiskService::open_source(const ServeRequest& request,
                                                                    const SourceChoice& choice,
                                                                    Holds& holds) {
  const Result<StoreUri> uri = parse_store_uri(choice.uri);
  if (!uri) co_return uri.error();
  const Status free = co_await take_source(request, choice, *uri, holds);
  if (!free) co_return free.error();
  Result<std::unique_ptr<BlockDevice>> opened = co_await open_disk_store(request, *uri);
  if (!opened) co_return opened.error();
  std::unique_ptr<BlockDevice> device = *std::move(opened);
  const std::vector<DiskLife> nobodys;  // who serves by another name says so
  const Status alone = co_await check_alias(*uri, *device, request.disk, nobodys);
  if (!alone) {
    const Status closed = co_await device->close();
    static_cast<void>(closed);  // nothing was written to it
    co_return alone.error();
  }
  Result<std::unique_ptr<BlockDevice>> fitted =
      co_await fit_source(std::move(device), request, choice);
  co_return std::move(fitted);
}

Task<void> DiskService::note_created(const BlockDevice& store, SourceChoice& choice) {
  const Result<StoreUri> uri = parse_store_uri(choice.uri);
  const bool created = uri.ok() && uri->kind == StoreUri::Kind::kFile;
  if (!created || !store.info().zero_initialised) co_return;
  const std::string& path = uri->path;
  choice.created = co_await offload(loop_, [&path] { return parts_of(path); });
}

Task<void> DiskService::remove_created(const SourceChoice& choice) {
  const Result<StoreUri> uri = parse_store_uri(choice.uri);
  if (choice.created.empty() || !uri.ok()) co_return;
  const std::string& path = uri->path;
  // Only what was made here: somebody may have put another file of that name there since.
  co_await offload(loop_, [&path, &choice] {
    struct stat named {};
    const bool is_file = lstat(path.c_str(), &named) == 0 && S_ISREG(named.st_mode);
    if (is_file && overlap(parts_of(path), choice.created)) unlink(path.c_str());
  });
}

/// A guest may have put that there, so it is no error.
Task<void> DiskService::warn_of_format(BlockDevice& file, const std::string& disk) {
  const std::string_view format = co_await look_for_format(file);
  if (format.empty()) co_return;
  log_.warning(file.info().name + " looks like a " + std::string(format) +
                   " image and is served as it is, raw: serve one of another format with qemu-nbd, "
                   "and name that as the source",
               {disk, "", 0});
}

Task<Result<std::unique_ptr<BlockDevice>>> DiskService::open_disk_store(const ServeRequest& request,
                                                                        const StoreUri& uri) {
  OpenStoreOptions options;
  options.file.cache = request.cache;
  options.file.read_only = request.read_only;
  options.file.create_size_bytes = request.create_size_bytes;
  options.nbd.read_only = request.read_only;
  options.nbd.connect_timeout = kSourceConnectTimeout;
  Result<std::unique_ptr<BlockDevice>> opened = co_await open_store(loop_, uri, options);
  if (!opened) co_return opened.error();
  std::unique_ptr<BlockDevice> device = *std::move(opened);
  if (request.cache == CacheMode::kMap && device->info().may_hang) {
    log_.warning(device->info().name +
                     " is on a filesystem that may hang: it is not mapped, but "
                     "served as buffered",
                 {request.disk, "", 0});
  }
  if (uri.kind == StoreUri::Kind::kFile) co_await warn_of_format(*device, request.disk);
  if (uri.kind == StoreUri::Kind::kNbd) {
    auto lasting = std::make_unique<ReconnectingDevice>(loop_, std::move(device));
    lasting->outlast();
    device = std::move(lasting);
  }
  co_return std::move(device);
}

Task<Result<std::unique_ptr<BlockDevice>>> DiskService::fit_source(
    std::unique_ptr<BlockDevice> device, const ServeRequest& request, const SourceChoice& choice) {
  if (!choice.known) co_return std::move(device);
  const Result<std::optional<DiskRecord>> record = co_await journal_.load_disk(request.disk);
  const std::uint64_t known_size =
      record.ok() && record->has_value() ? (*record)->size_bytes : device->info().size_bytes;
  const Result<StoreUri> uri = parse_store_uri(choice.uri);
  const bool grows =
      uri.ok() && uri->kind == StoreUri::Kind::kFile && device->info().size_bytes > known_size;
  bool regular = false;
  if (grows) {
    const bool is_file = co_await offload(loop_, [&uri] { return is_regular_file(uri->path); });
    regular = is_file;
  }
  if (regular)
    co_return std::move(device);  // somebody made the image larger while it was not served
  Result<std::unique_ptr<BlockDevice>> fitted = fit_to_size(device, known_size);
  if (fitted.ok()) co_return std::move(fitted);
  const Status closed = co_await device->close();
  if (!closed) log_.error(closed.error().message(), {request.disk, "", choice.epoch});
  co_return fitted.error();
}

}  // namespace blockmig
