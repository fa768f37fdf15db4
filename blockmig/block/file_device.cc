// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/file_device.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/block/aligned_buffer.h"
#include "blockmig/block/direct_file.h"
#include "blockmig/block/durable_writes.h"
#include "blockmig/block/file_extents.h"
#include "blockmig/block/file_io.h"
#include "blockmig/block/file_transfer.h"
#include "blockmig/block/inline_file.h"
#include "blockmig/block/open_file.h"
#include "blockmig/block/past_cache.h"
#include "blockmig/block/range_lock.h"
#include "blockmig/block/sector_order.h"
#include "blockmig/block/sync_group.h"
#include "blockmig/block/zero_split.h"
#include "blockmig/io/bounded_calls.h"
#include "blockmig/io/offload.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kZeroPieceBytes = kMiB;  // of writes, where the filesystem cannot make them
constexpr std::uint64_t kZeroCallBytes = kGiB;   // a call keeps all writers out
constexpr std::uint64_t kAllocationBytes = 4096;  // smaller ones only make more metadata

/// Nothing but flushes syncs `sync_fd`, and nothing but durable writes the others: the kernel
/// reports what it lost once per open file, and whoever shares one shares the fate (I11). One
/// sticky error is for all: what is lost may have been anybody's.
class FileDevice final : public BlockDevice {
 public:
  FileDevice(IoLoop& loop, OpenedFile file, DeviceInfo info, const FileDeviceOptions& options)
      : loop_(loop),
        file_(std::move(file)),
        info_(std::move(info)),
        io_(loop, file_.may_hang),
        on_the_spot_(file_.fd.get(), std::move(file_.pages)),
        order_(loop),
        past_cache_(file_.fd.get()),
        syncs_(loop, lost_, [this] { return sync_file(); }),
        durable_writes_(loop, lost_),
        inline_(options.inline_io && options.cache != CacheMode::kDirect && !file_.may_hang) {
    if (options.cache == CacheMode::kDirect) direct_.emplace(loop_, io_, file_, info_.name);
  }

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t at, MutableBytes to) override { return read_file(at, to, {}); }
  Task<Status> read_once(std::uint64_t offset, MutableBytes into) override {
    return read_file(offset, into, Again::kUnlikely);
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  Task<Status> read_medium(std::uint64_t offset, MutableBytes into) override;
  bool lend_now(std::uint64_t offset, std::size_t length,
                FunctionRef<bool(ConstBytes)> use) override;
  ConstBytes borrow_now(std::uint64_t offset, std::size_t length) override;
  bool fill_now(std::uint64_t offset, std::size_t length,
                FunctionRef<std::size_t(MutableBytes)> fill) override;
  bool read_now(std::uint64_t offset, MutableBytes into) override;
  bool write_now(std::uint64_t offset, ConstBytes from) override;
  void prefer_latency(bool on) override { inline_ = on && !direct_ && !file_.may_hang; }
  void share_between_threads(bool on) override { order_.share(on); }
  void abandon() override { abandoned_ = true; }
  Task<Status> revive() override;
  Task<Status> close() override;

 private:
  using Access = SectorOrder::Access;
  using Again = InlineFile::Again;

  Task<Status> read_file(std::uint64_t offset, MutableBytes into, Again again);
  /// On the loop: bytes done on the spot; the rest is for asynchronous I/O.
  Result<std::size_t> write_inline(std::uint64_t offset, ConstBytes from);
  /// On any thread: leave to do something on the spot, if there is.
  SectorOrder::Call begin_now(ByteRange range, Access access);
  Task<Status> transfer(std::uint64_t offset, ConstBytes from, bool durable);
  Task<Status> zero_blocks(ByteRange blocks, bool no_hole);
  Task<Status> write_zero_bytes(ByteRange range);
  Task<Status> sync_file();  ///< for `syncs_` only
  Status writable(const char* verb) const;
  /// What a finished request answers: abandoned devices fail everything.
  Status judged(Status status) const;
  std::uint64_t block_bytes() const {
    return std::max<std::uint64_t>(kAllocationBytes, file_.offset_alignment);
  }

  IoLoop& loop_;
  BoundedCalls calls_{loop_.file_calls()};
  OpenedFile file_;
  DeviceInfo info_;
  FileIo io_;
  std::optional<DirectFile> direct_;
  InlineFile on_the_spot_;
  SectorOrder order_;
  PastCache past_cache_;
  StickyError lost_;
  SyncGroup syncs_;
  DurableWrites durable_writes_;
  std::atomic<bool> inline_;
  std::atomic<bool> abandoned_{false};
};

Status FileDevice::judged(Status status) const {
  if (!abandoned_) return status;
  return Error(ErrorCode::kDisconnected, info_.name + ": abandoned");
}

Status FileDevice::writable(const char* verb) const {
  if (abandoned_) return judged({});
  if (!info_.read_only) return {};
  return Error(ErrorCode::kReadOnly, info_.name + ": " + verb + ": opened read-only");
}

Task<Status> FileDevice::read_file(std::uint64_t offset, MutableBytes into, Again again) {
  assert_range(info_, offset, into.size());
  if (abandoned_) co_return judged({});
  const ByteRange range{offset, into.size()};
  if (direct_ && !direct_->through_cache(range)) {
    const Status done = co_await direct_->read(offset, into);
    co_return judged(done);
  }
  if (inline_) {
    std::size_t count = 0;
    if (const SectorOrder::Call call = order_.try_on_loop(range, Access::kRead); call) {
      count = on_the_spot_.read(offset, into, again);
    }
    if (count == into.size()) co_return Status();
    offset += count;
    into = into.subspan(count);
  }
  const SectorOrder::Claim claim = co_await order_.claim(range, Access::kRead);
  Task<Status> reading = direct_ ? direct_->read(offset, into)
                                 : read_whole(io_, file_.fd.get(), offset, into, info_.name);
  const Status done = co_await reading;
  co_return judged(done);
}

Task<Status> FileDevice::read_medium(std::uint64_t offset, MutableBytes into) {
  assert_range(info_, offset, into.size());
  if (abandoned_) co_return judged({});
  const ByteRange range{offset, into.size()};
  const SectorOrder::Claim claim = co_await order_.claim(range, Access::kRead);
  const Status done = co_await offload(
      calls_, [this, offset, into] { return past_cache_.read(offset, into, info_.name); });
  co_return judged(done);
}

Task<Status> FileDevice::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  assert_range(info_, offset, from.size());
  const Status allowed = writable("write");
  if (!allowed) co_return allowed;
  const ByteRange range{offset, from.size()};
  if (flags.fua) {
    const SectorOrder::Claim claim = co_await order_.claim(range, Access::kWrite);
    const auto pass = [this, offset, from](bool durable) {
      return transfer(offset, from, durable);
    };
    const Status done = co_await durable_writes_.write(pass);
    co_return judged(done);
  }
  if (inline_) {
    const Result<std::size_t> count = write_inline(offset, from);
    if (!count) co_return count.error();
    if (*count == from.size()) co_return Status();
    offset += *count;
    from = from.subspan(*count);
  }
  const SectorOrder::Claim claim = co_await order_.claim(range, Access::kWrite);
  const Status done = co_await transfer(offset, from, false);
  co_return judged(done);
}

// A call that ends early does so between two pages, and pages begin where sectors do: between its
// part and the asynchronous rest no sector is half done.
Result<std::size_t> FileDevice::write_inline(std::uint64_t offset, ConstBytes from) {
  const ByteRange range{offset, from.size()};
  const SectorOrder::Call call = order_.try_on_loop(range, Access::kWrite);
  if (!call) return std::size_t{0};
  const InlineFile::Written written = on_the_spot_.write(offset, from);
  if (written.os_errno == 0) return written.bytes;
  return Error::from_errno(written.os_errno, info_.name + ": write at " + std::to_string(offset));
}

SectorOrder::Call FileDevice::begin_now(ByteRange range, Access access) {
  assert_range(info_, range.offset, range.length);
  const bool refused = !inline_ || abandoned_ || range.length > InlinePolicy::kMaxInlineBytes ||
                       (access == Access::kWrite && info_.read_only);
  return refused ? SectorOrder::Call() : order_.try_anywhere(range, access);
}

bool FileDevice::read_now(std::uint64_t offset, MutableBytes into) {
  const SectorOrder::Call call = begin_now({offset, into.size()}, Access::kRead);
  return call && on_the_spot_.read(offset, into) == into.size();
}

bool FileDevice::write_now(std::uint64_t offset, ConstBytes from) {
  const SectorOrder::Call call = begin_now({offset, from.size()}, Access::kWrite);
  return call && on_the_spot_.write(offset, from).bytes == from.size();
}

bool FileDevice::lend_now(std::uint64_t offset, std::size_t length,
                          FunctionRef<bool(ConstBytes)> use) {
  const SectorOrder::Call call = begin_now({offset, length}, Access::kRead);
  return call && on_the_spot_.lend(offset, length, use);
}

ConstBytes FileDevice::borrow_now(std::uint64_t offset, std::size_t length) {
  if (!order_.is_alone()) return {};
  const SectorOrder::Call call = begin_now({offset, length}, Access::kRead);
  return call ? on_the_spot_.borrow(offset, length) : ConstBytes();
}

bool FileDevice::fill_now(std::uint64_t offset, std::size_t length,
                          FunctionRef<std::size_t(MutableBytes)> fill) {
  const SectorOrder::Call call = begin_now({offset, length}, Access::kWrite);
  return call && on_the_spot_.fill(offset, length, fill);
}

Task<Status> FileDevice::transfer(std::uint64_t offset, ConstBytes from, bool durable) {
  if (direct_) {
    const Status done = co_await direct_->write(offset, from, durable);
    co_return done;
  }
  const Status done = co_await write_whole(io_, file_.fd.get(), offset, from, durable, info_.name);
  co_return done;
}

Task<Status> FileDevice::sync_file() {
  if (abandoned_) co_return judged({});
  on_the_spot_.cleaned();
  const Status done = co_await io_.sync(file_.sync_fd.get());
  co_return done ? done : Status(done.error().with_context(info_.name + ": flush"));
}

Task<Status> FileDevice::flush() {
  if (abandoned_) co_return judged({});
  if (info_.read_only) co_return Status();
  const Status done = co_await syncs_.flush();
  co_return judged(done);
}

Task<Status> FileDevice::write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) {
  assert_range(info_, offset, length);
  const Status allowed = writable("write zeroes");
  if (!allowed) co_return allowed;
  if (flags.fast_only && !info_.can_fast_zero) {
    co_return Error(ErrorCode::kNotSupported, info_.name + ": no fast zeroing");
  }
  const ByteRange whole{offset, length};
  const SectorOrder::Claim claim = co_await order_.claim(whole, Access::kWrite);
  const ZeroSplit split =
      split_for_zeroing({offset, length}, info_.size_bytes, block_bytes(), !file_.block_device);
  if (!split.middle.empty()) {
    // The blocks first: where they cannot be done fast, nothing has changed yet.
    const Status zeroed = co_await zero_blocks(split.middle, flags.no_hole);
    if (!zeroed && (zeroed.error().code() != ErrorCode::kNotSupported || flags.fast_only)) {
      co_return judged(zeroed);
    }
    if (!zeroed) {
      const std::uint64_t end = std::min(split.middle.end(), info_.size_bytes);
      const ByteRange inside{split.middle.offset, end - split.middle.offset};
      const Status written = co_await write_zero_bytes(inside);
      if (!written) co_return judged(written);
    }
  }
  const Status head = co_await write_zero_bytes(split.head);
  if (!head) co_return judged(head);
  const Status tail = co_await write_zero_bytes(split.tail);
  if (!tail || !flags.fua) co_return judged(tail);
  const Status synced = co_await syncs_.flush();
  co_return judged(synced);
}

/// kNotSupported: nothing changed.
Task<Status> FileDevice::zero_blocks(ByteRange blocks, bool no_hole) {
  RangeLock::Hold hold;
  if (direct_) {
    RangeLock::Hold granted = co_await direct_->lock(blocks);
    hold = std::move(granted);
  }
  // Zeroing behind the end would allocate there for nothing; punching frees the last block whole.
  if (no_hole) blocks.length = std::min(blocks.end(), info_.size_bytes) - blocks.offset;
  const AllocateMode mode = no_hole ? AllocateMode::kZeroRange : AllocateMode::kPunchHole;
  Status done;
  while (!blocks.empty() && done && !abandoned_) {
    const ByteRange part{blocks.offset, std::min(blocks.length, kZeroCallBytes)};
    on_the_spot_.forget(part);
    const Status zeroed = co_await io_.allocate(file_.fd.get(), mode, part.offset, part.length);
    on_the_spot_.forget(part);
    done = zeroed;
    blocks = {part.end(), blocks.end() - part.end()};
    if (done) continue;
    done = done.error().with_context(info_.name + ": zeroing at " + std::to_string(part.offset));
  }
  co_return done;
}

Task<Status> FileDevice::write_zero_bytes(ByteRange range) {
  if (range.empty()) co_return Status();
  AlignedBuffer zeros(std::min(range.length, kZeroPieceBytes));
  zeros.zero();
  while (!range.empty() && !abandoned_) {  // gigabytes, perhaps
    const ConstBytes piece = zeros.bytes().first(std::min(range.length, kZeroPieceBytes));
    const Status done = co_await transfer(range.offset, piece, false);
    if (!done) co_return done;
    range.offset += piece.size();
    range.length -= piece.size();
  }
  co_return Status();
}

Task<Status> FileDevice::trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) {
  assert_range(info_, offset, length);
  const Status allowed = writable("trim");
  if (!allowed) co_return allowed;
  const ByteRange blocks =
      split_for_zeroing({offset, length}, info_.size_bytes, block_bytes(), !file_.block_device)
          .middle;
  if (!blocks.empty() && info_.can_trim) {
    const SectorOrder::Claim claim = co_await order_.claim(blocks, Access::kWrite);
    Status done;
    if (file_.block_device) {
      RangeLock::Hold hold;
      if (direct_) {
        RangeLock::Hold granted = co_await direct_->lock(blocks);
        hold = std::move(granted);
      }
      const int fd = file_.fd.get();
      on_the_spot_.forget(blocks);
      const int os_errno = co_await offload(calls_, [fd, blocks] { return discard(fd, blocks); });
      on_the_spot_.forget(blocks);
      if (os_errno != 0) done = Error::from_errno(os_errno, info_.name + ": discard");
    } else {
      const Status punched = co_await zero_blocks(blocks, false);
      done = punched;
    }
    // A hint that the medium does not take is no error.
    if (!done && done.error().code() != ErrorCode::kNotSupported) co_return judged(done);
  }
  if (!flags.fua) co_return judged({});
  const Status synced = co_await syncs_.flush();
  co_return judged(synced);
}

Task<Result<std::vector<Extent>>> FileDevice::extents(std::uint64_t offset, std::uint64_t length) {
  assert_range(info_, offset, length);
  if (abandoned_) co_return judged({}).error();
  Result<std::vector<Extent>> found = co_await offload(calls_, [this, offset, length] {
    return scan_file_extents(file_.fd.get(), offset, length, info_.name);
  });
  if (abandoned_) co_return judged({}).error();
  co_return found;
}

/// The kernel counts what it lost as clean: only what is written anew is seen by later syncs. Each
/// open file that has not reported the loss yet does it now, not to who comes after.
Task<Status> FileDevice::revive() {
  if (abandoned_ || info_.read_only) co_return judged({});
  for (const int fd : {file_.fd.get(), file_.buffered_fd.get(), file_.sync_fd.get()}) {
    if (fd < 0) continue;
    [[maybe_unused]] const Status forgotten = co_await io_.sync(fd);
  }
  lost_.forget();
  co_return judged({});
}

Task<Status> FileDevice::close() {
  // Closing a file on a network may wait for its server.
  co_await offload(loop_, [this] {
    on_the_spot_.unmap();
    past_cache_.close();
    file_.buffered_fd.reset();
    file_.sync_fd.reset();
    file_.fd.reset();
  });
  co_return Status();
}

}  // namespace

Task<Result<std::unique_ptr<BlockDevice>>> open_file_device(IoLoop& loop, const std::string& path,
                                                            const FileDeviceOptions& options) {
  Result<OpenedFile> file = co_await offload(loop, [&] { return open_file(path, options); });
  if (!file) co_return file.error();
  DeviceInfo info = info_of(*file, path, options);
  std::unique_ptr<BlockDevice> device =
      std::make_unique<FileDevice>(loop, std::move(*file), std::move(info), options);
  co_return device;
}

}  // namespace blockmig
