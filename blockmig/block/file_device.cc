// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/file_device.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/block/aligned_buffer.h"
#include "blockmig/block/direct_file.h"
#include "blockmig/block/file_extents.h"
#include "blockmig/block/file_transfer.h"
#include "blockmig/block/inline_policy.h"
#include "blockmig/block/open_file.h"
#include "blockmig/block/range_lock.h"
#include "blockmig/block/zero_split.h"
#include "blockmig/io/offload.h"

namespace blockmig {
namespace {

// Zeros are written in pieces of this size where the filesystem cannot make them.
constexpr std::uint64_t kZeroPieceBytes = kMiB;
// A call keeps writers of the whole file out for its time: let them in now and then.
constexpr std::uint64_t kZeroCallBytes = kGiB;
// The unit in which filesystems allocate, at least; smaller ones only make more metadata.
constexpr std::uint64_t kAllocationBytes = 4096;

class FileDevice final : public BlockDevice {
 public:
  FileDevice(IoLoop& loop, OpenedFile file, DeviceInfo info, const FileDeviceOptions& options)
      : loop_(loop),
        file_(std::move(file)),
        info_(std::move(info)),
        busy_(loop),
        inline_(options.inline_io && options.cache == CacheMode::kBuffered) {
    if (options.cache == CacheMode::kDirect) direct_.emplace(loop_, file_, info_.name);
  }

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  void prefer_latency(bool on) override { inline_ = on && !direct_; }
  void abandon() override { abandoned_ = true; }
  Task<Status> close() override;

 private:
  /// Bytes done on the spot; the rest is for asynchronous I/O.
  std::size_t read_inline(std::uint64_t offset, MutableBytes into);
  Result<std::size_t> write_inline(std::uint64_t offset, ConstBytes from);
  template <typename Call>
  ssize_t measured(std::size_t bytes, Call call);

  Task<Status> transfer(std::uint64_t offset, ConstBytes from, bool durable);
  Task<Status> write_durably(std::uint64_t offset, ConstBytes from);
  Task<Status> zero_blocks(ByteRange blocks, bool no_hole);
  Task<Status> write_zero_bytes(ByteRange range);
  Task<Status> sync_file();
  Status writable(const char* verb) const;
  /// What a finished request answers: abandoned devices fail everything.
  Status judged(Status status) const;
  std::uint64_t block_bytes() const {
    return std::max<std::uint64_t>(kAllocationBytes, file_.offset_alignment);
  }

  IoLoop& loop_;
  OpenedFile file_;
  DeviceInfo info_;
  std::optional<DirectFile> direct_;
  InlinePolicy policy_;
  /// Requests in asynchronous I/O. The page cache does not keep a read and a write of one sector
  /// apart; this does (I2). What is done on the spot is apart by being on one thread.
  RangeLock busy_;
  std::optional<Error> flush_error_;  ///< the first failed sync: all later ones fail too (I11)
  bool inline_;
  bool nowait_reads_ = true;  ///< until the filesystem refuses RWF_NOWAIT
  bool abandoned_ = false;
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

Task<Status> FileDevice::read(std::uint64_t offset, MutableBytes into) {
  assert_range(info_, offset, into.size());
  if (abandoned_) co_return judged({});
  if (direct_) {
    const Status done = co_await direct_->read(offset, into);
    co_return judged(done);
  }
  const ByteRange range{offset, into.size()};
  if (inline_ && !busy_.touches(range)) {
    const std::size_t count = read_inline(offset, into);
    if (count == into.size()) co_return Status();
    offset += count;
    into = into.subspan(count);
  }
  const auto hold = co_await busy_.lock(range);
  const Status done = co_await read_whole(loop_, file_.fd.get(), offset, into, info_.name);
  co_return judged(done);
}

Task<Status> FileDevice::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  assert_range(info_, offset, from.size());
  const Status allowed = writable("write");
  if (!allowed) co_return allowed;
  const ByteRange range{offset, from.size()};
  if (flags.fua) {
    const auto hold = co_await busy_.lock(range);
    const Status done = co_await write_durably(offset, from);
    co_return judged(done);
  }
  if (inline_ && !busy_.touches(range)) {
    const Result<std::size_t> count = write_inline(offset, from);
    if (!count) co_return count.error();
    if (*count == from.size()) co_return Status();
    offset += *count;
    from = from.subspan(*count);
  }
  const auto hold = co_await busy_.lock(range);
  const Status done = co_await transfer(offset, from, false);
  co_return judged(done);
}

/// Runs a call that may block, and tells the policy how long it took.
template <typename Call>
ssize_t FileDevice::measured(std::size_t bytes, Call call) {
  // The real clock, not the loop's: the loop's may stand still while a callback runs.
  const TimePoint start = std::chrono::steady_clock::now();
  if (!policy_.allows(start, bytes)) {
    errno = EAGAIN;
    return -1;
  }
  const ssize_t count = call();
  const int saved = errno;
  policy_.observe(start, std::chrono::steady_clock::now(), bytes);
  errno = saved;
  return count;
}

std::size_t FileDevice::read_inline(std::uint64_t offset, MutableBytes into) {
  if (into.size() > InlinePolicy::kMaxInlineBytes) return 0;
  const auto at = static_cast<off_t>(offset);
  if (nowait_reads_) {
    const iovec part{into.data(), into.size()};
    const ssize_t count = ::preadv2(file_.fd.get(), &part, 1, at, RWF_NOWAIT);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return 0;
    nowait_reads_ = false;
  }
  const ssize_t count =
      measured(into.size(), [&] { return ::pread(file_.fd.get(), into.data(), into.size(), at); });
  // An error shows again, with its context, on the asynchronous path.
  return count > 0 ? static_cast<std::size_t>(count) : 0;
}

Result<std::size_t> FileDevice::write_inline(std::uint64_t offset, ConstBytes from) {
  // ext4 refuses RWF_NOWAIT for buffered writes, and a write that it lets through may still wait
  // for the journal: so plain calls, watched.
  const ssize_t count = measured(from.size(), [&] {
    return ::pwrite(file_.fd.get(), from.data(), from.size(), static_cast<off_t>(offset));
  });
  if (count >= 0) return static_cast<std::size_t>(count);
  if (errno == EAGAIN || errno == EINTR) return std::size_t{0};
  return Error::from_errno(errno, info_.name + ": write at " + std::to_string(offset));
}

Task<Status> FileDevice::transfer(std::uint64_t offset, ConstBytes from, bool durable) {
  if (direct_) {
    const Status done = co_await direct_->write(offset, from, durable);
    co_return done;
  }
  const Status done =
      co_await write_whole(loop_, file_.fd.get(), offset, from, durable, info_.name);
  co_return done;
}

/// A durable write whose sync fails has taken the kernel's error report with it: no later fdatasync
/// would repeat it, although other writes may be lost. So it fails all later flushes (I11), unless
/// the write itself failed for want of space, before any sync.
Task<Status> FileDevice::write_durably(std::uint64_t offset, ConstBytes from) {
  if (flush_error_) co_return *flush_error_;
  const Status done = co_await transfer(offset, from, true);
  if (done) co_return done;
  if (done.error().code() == ErrorCode::kNoSpace) {
    const Status again = co_await transfer(offset, from, false);
    if (!again && again.error().code() == ErrorCode::kNoSpace) co_return done;
  }
  if (!flush_error_) flush_error_ = done.error();
  co_return done;
}

Task<Status> FileDevice::sync_file() {
  if (flush_error_) co_return *flush_error_;
  const Status done = co_await loop_.sync(file_.fd.get());
  if (done) co_return done;
  const Error error = done.error().with_context(info_.name + ": flush");
  if (!flush_error_) flush_error_ = error;
  co_return error;
}

Task<Status> FileDevice::flush() {
  if (abandoned_) co_return judged({});
  if (info_.read_only) co_return Status();
  const Status done = co_await sync_file();
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
  const auto hold = co_await busy_.lock(whole);
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
  const Status synced = co_await sync_file();
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
  while (!blocks.empty()) {
    const std::uint64_t length = std::min(blocks.length, kZeroCallBytes);
    const Status done = co_await loop_.allocate(file_.fd.get(), mode, blocks.offset, length);
    if (!done) {
      co_return done.error().with_context(info_.name + ": zeroing at " +
                                          std::to_string(blocks.offset));
    }
    blocks.offset += length;
    blocks.length -= length;
  }
  co_return Status();
}

Task<Status> FileDevice::write_zero_bytes(ByteRange range) {
  if (range.empty()) co_return Status();
  AlignedBuffer zeros(std::min(range.length, kZeroPieceBytes));
  zeros.zero();
  while (!range.empty()) {
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
    Status done;
    if (file_.block_device) {
      RangeLock::Hold hold;
      if (direct_) {
        RangeLock::Hold granted = co_await direct_->lock(blocks);
        hold = std::move(granted);
      }
      const int fd = file_.fd.get();
      const int os_errno = co_await offload(loop_, [fd, blocks] {
        std::uint64_t range[2] = {blocks.offset, blocks.length};
        return ::ioctl(fd, BLKDISCARD, range) == 0 ? 0 : errno;
      });
      if (os_errno != 0) done = Error::from_errno(os_errno, info_.name + ": discard");
    } else {
      const Status punched = co_await zero_blocks(blocks, false);
      done = punched;
    }
    // A hint that the medium does not take is no error.
    if (!done && done.error().code() != ErrorCode::kNotSupported) co_return judged(done);
  }
  if (!flags.fua) co_return judged({});
  const Status synced = co_await sync_file();
  co_return judged(synced);
}

Task<Result<std::vector<Extent>>> FileDevice::extents(std::uint64_t offset, std::uint64_t length) {
  assert_range(info_, offset, length);
  if (abandoned_) co_return judged({}).error();
  const int fd = file_.fd.get();
  Result<std::vector<Extent>> found = co_await offload(loop_, [this, fd, offset, length] {
    return scan_file_extents(fd, offset, length, info_.name);
  });
  if (abandoned_) co_return judged({}).error();
  co_return found;
}

Task<Status> FileDevice::close() {
  // Closing a file on a network may wait for its server.
  co_await offload(loop_, [this] {
    file_.buffered_fd.reset();
    file_.fd.reset();
  });
  co_return Status();
}

}  // namespace

Task<Result<std::unique_ptr<BlockDevice>>> open_file_device(IoLoop& loop, const std::string& path,
                                                            const FileDeviceOptions& options) {
  Result<OpenedFile> file = co_await offload(loop, [&] { return open_file(path, options); });
  if (!file) co_return file.error();
  DeviceInfo info;
  info.name = path;
  info.size_bytes = file->size_bytes;
  info.read_only = options.read_only;
  info.can_trim = !options.read_only && (file->can_punch || file->block_device);
  info.can_fast_zero = file->can_punch;
  info.zero_initialised = file->created;
  std::unique_ptr<BlockDevice> device =
      std::make_unique<FileDevice>(loop, std::move(*file), std::move(info), options);
  co_return device;
}

}  // namespace blockmig
