// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/inline_file.h"

#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>

namespace blockmig {
namespace {

constexpr std::size_t kAlwaysTimedBytes = 64 * kKiB;
constexpr std::uint32_t kTimedOneIn = 4;

// The real clock, not the loop's: the loop's may stand still while a callback runs.
TimePoint real_now() { return std::chrono::steady_clock::now(); }

std::uint32_t generation_at(TimePoint now) {
  return static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
}

/// The same from the clock's last tick: a quarter of the price.
std::uint32_t coarse_generation() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint32_t>(now.tv_sec);
}

InlinePolicy::Switches thread_switches() {
  rusage used = {};
  if (::getrusage(RUSAGE_THREAD, &used) != 0) return {};
  return {used.ru_nvcsw, used.ru_nivcsw};
}

}  // namespace

/// Runs a call that may block, and tells the policy how long it took. EAGAIN where the policy says
/// no.
template <typename Call>
ssize_t InlineFile::measured(std::size_t bytes, Call call) {
  const TimePoint start = real_now();
  if (!policy_.allows(start, bytes)) {
    errno = EAGAIN;
    return -1;
  }
  const bool watched = policy_.watches_next();
  const InlinePolicy::Switches before = watched ? thread_switches() : InlinePolicy::Switches{};
  const ssize_t count = call(start);
  const int saved = errno;
  const TimePoint end = real_now();
  if (InlinePolicy::is_slow(end - start, bytes)) {
    if (watched) {
      const InlinePolicy::Switches after = thread_switches();
      policy_.observe_slow(start, end,
                           {after.waited - before.waited, after.preempted - before.preempted});
    } else {
      policy_.forgive();
    }
  }
  errno = saved;
  return count;
}

std::size_t InlineFile::read(std::uint64_t offset, MutableBytes into, Again again) {
  if (into.size() > InlinePolicy::kMaxInlineBytes) return 0;
  if (pages_ && pages_->read(offset, into, coarse_generation())) return into.size();
  const auto at = static_cast<off_t>(offset);
  if (nowait_reads_.load(std::memory_order_relaxed)) {
    const iovec part{into.data(), into.size()};
    const ssize_t count = ::preadv2(fd_, &part, 1, at, RWF_NOWAIT);
    if (count > 0 && pages_ && again == Again::kLikely) {
      pages_->was_read({offset, static_cast<std::uint64_t>(count)}, coarse_generation());
    }
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return 0;
    nowait_reads_.store(false, std::memory_order_relaxed);
  }
  const ssize_t count =
      measured(into.size(), [&](TimePoint) { return ::pread(fd_, into.data(), into.size(), at); });
  if (count > 0 && pages_ && again == Again::kLikely) {
    pages_->was_read({offset, static_cast<std::uint64_t>(count)}, coarse_generation());
  }
  // An error shows again, with its context, on the asynchronous path.
  return count > 0 ? static_cast<std::size_t>(count) : 0;
}

InlineFile::Written InlineFile::write(std::uint64_t offset, ConstBytes from) {
  if (write_mapped(offset, from)) return {from.size(), 0};
  // ext4 refuses RWF_NOWAIT for buffered writes, and a write that it lets through may still wait
  // for the journal: so plain calls, watched.
  const ssize_t count = measured(from.size(), [&](TimePoint start) {
    const ssize_t put = ::pwrite(fd_, from.data(), from.size(), static_cast<off_t>(offset));
    if (put > 0 && pages_) {
      pages_->was_written({offset, static_cast<std::uint64_t>(put)}, generation_at(start));
    }
    return put;
  });
  if (count >= 0) return {static_cast<std::size_t>(count), 0};
  if (errno == EAGAIN || errno == EINTR) return {};
  return {0, errno};
}

/// A copy that meets the kernel is slow, and its pages say so again: looking at the clock for some
/// of the small ones is enough.
bool InlineFile::write_mapped(std::uint64_t offset, ConstBytes from) {
  if (!pages_) return false;
  thread_local std::uint32_t small_writes = 0;
  const bool timed = from.size() >= kAlwaysTimedBytes || ++small_writes % kTimedOneIn == 0;
  const TimePoint start = timed ? real_now() : TimePoint();
  const std::uint32_t generation = timed ? generation_at(start) : coarse_generation();
  if (!pages_->write(offset, from, generation)) return false;
  if (timed) pages_->copied({offset, from.size()}, real_now() - start, generation);
  return true;
}

bool InlineFile::lend(std::uint64_t offset, std::size_t length, FunctionRef<bool(ConstBytes)> use) {
  const ConstBytes bytes = borrow(offset, length);
  return bytes.size() == length && use(bytes);
}

ConstBytes InlineFile::borrow(std::uint64_t offset, std::size_t length) {
  if (!pages_) return {};
  return pages_->readable({offset, length}, coarse_generation());
}

bool InlineFile::fill(std::uint64_t offset, std::size_t length,
                      FunctionRef<std::size_t(MutableBytes)> fill) {
  if (!pages_) return false;
  const ssize_t count = measured(length, [&](TimePoint start) {
    const std::uint32_t generation = generation_at(start);
    const MutableBytes bytes = pages_->writable({offset, length}, generation);
    if (bytes.size() != length) return ssize_t{-1};
    const std::size_t filled = fill(bytes);
    pages_->copied({offset, length}, real_now() - start, generation);
    return static_cast<ssize_t>(filled);
  });
  return count >= 0;
}

void InlineFile::forget(ByteRange range) {
  if (pages_) pages_->forget(range);
}

void InlineFile::cleaned() {
  if (pages_) pages_->cleaned();
}

}  // namespace blockmig
