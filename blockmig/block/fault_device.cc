// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/fault_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/io/cancel.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kCacheLimitBytes = 16 * kMiB;  // then it is written back by itself
constexpr std::size_t kCacheLimitChanges = 4096;

}  // namespace

struct FaultDevice::Request {
  Request(FaultDevice& device, const Change* change)
      : device_(device), change_(change), generation_(device.generation_) {
    place_ = device_.requests_.insert(device_.requests_.end(), this);
  }
  ~Request() { device_.requests_.erase(place_); }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  FaultDevice& device_;
  const Change* change_;    ///< what a write would do; null for other requests
  ConstBytes late_source_;  ///< the buffer, where it is read only when the write takes effect
  std::uint64_t generation_;
  std::list<Request*>::iterator place_;
};

FaultDevice::FaultDevice(EventLoop& loop, Random& random, std::string name,
                         std::uint64_t size_bytes)
    : loop_(loop),
      random_(random),
      durable_(name, size_bytes),
      visible_(std::move(name), size_bytes),
      wake_(loop) {}

FaultDevice::~FaultDevice() { BM_CHECK(requests_.empty()); }

const DeviceInfo& FaultDevice::info() const { return visible_.info(); }
DeviceInfo& FaultDevice::mutable_info() { return visible_.mutable_info(); }

Task<Status> FaultDevice::read(std::uint64_t offset, MutableBytes into) {
  return read_from(Image::kVisible, offset, into);
}

Task<Status> FaultDevice::read_medium(std::uint64_t offset, MutableBytes into) {
  plan_.misdirected_write_ppm = 0;
  return read_from(Image::kMedium, offset, into);
}

void FaultDevice::peek_at(Image image, std::uint64_t offset, MutableBytes into) const {
  if (image == Image::kVisible) return visible_.peek(offset, into);
  // What is cached is written back first; what a failed flush has dropped never gets there.
  durable_.peek(offset, into);
  for (const Change& change : cache_) {
    const std::uint64_t begin = std::max(change.offset, offset);
    const std::uint64_t end = std::min(change.offset + change.length, offset + into.size());
    if (begin >= end) continue;
    const MutableBytes part = into.subspan(begin - offset, end - begin);
    if (change.data.empty()) {
      std::memset(part.data(), 0, part.size());
    } else {
      std::memcpy(part.data(), change.data.data() + (begin - change.offset), part.size());
    }
  }
}

Task<Status> FaultDevice::read_from(Image image, std::uint64_t offset, MutableBytes into) {
  assert_range(info(), offset, into.size());
  Request request(*this, nullptr);
  // The instant of effect is drawn: before the time it takes, or after.
  const bool early = random_.chance(1, 2);
  std::vector<std::byte> snapshot(early ? into.size() : 0);
  if (early) peek_at(image, offset, snapshot);
  const Status timed = co_await take_time(request, into.size());
  if (!timed) co_return timed.error().with_context("read");
  if (draw(plan_.read_error_ppm) || plan_.bad.overlaps({offset, into.size()})) {
    // What a failed read leaves in the buffer must not be used: make it recognisable, never zeros.
    std::memset(into.data(), 0xEE, into.size());
    co_return Error::from_errno(EIO, info().name + ": read at " + std::to_string(offset));
  }
  if (early) {
    std::copy(snapshot.begin(), snapshot.end(), into.begin());
  } else {
    peek_at(image, offset, into);
  }
  co_return Status();
}

Task<Status> FaultDevice::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  assert_range(info(), offset, from.size());
  if (from.empty()) co_return Status();
  Change change;
  change.offset = offset;
  change.length = from.size();
  change.data.assign(from.begin(), from.end());
  Request request(*this, &change);
  if (random_.chance(1, 2)) request.late_source_ = from;
  const Status timed = co_await take_time(request, from.size());
  if (!timed) co_return timed.error().with_context("write");
  if (!request.late_source_.empty()) change.data.assign(from.begin(), from.end());
  co_return finish_change(change, flags.fua);
}

Task<Status> FaultDevice::write_zeroes(std::uint64_t offset, std::uint64_t length,
                                       ZeroFlags flags) {
  assert_range(info(), offset, length);
  if (length == 0) co_return Status();
  if (flags.fast_only && !info().can_fast_zero) {
    co_return Error(ErrorCode::kNotSupported, info().name + ": no fast zeroing");
  }
  Change change;
  change.offset = offset;
  change.length = length;
  change.deallocate = !flags.no_hole;
  Request request(*this, &change);
  const Status timed = co_await take_time(request, 0);
  if (!timed) co_return timed.error().with_context("write zeroes");
  co_return finish_change(change, flags.fua);
}

Task<Status> FaultDevice::trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) {
  assert_range(info(), offset, length);
  // Whole pages become holes; the rest is left alone.
  const std::uint64_t begin = align_up(offset, MemoryDevice::kPageBytes);
  const std::uint64_t stop = offset + length == info().size_bytes
                                 ? info().size_bytes
                                 : align_down(offset + length, MemoryDevice::kPageBytes);
  Change change;
  change.offset = std::min(begin, stop);
  change.length = stop - change.offset;
  change.deallocate = true;
  Request request(*this, &change);
  const Status timed = co_await take_time(request, 0);
  if (!timed) co_return timed.error().with_context("trim");
  if (change.length == 0) co_return Status();
  co_return finish_change(change, flags.fua);
}

Task<Status> FaultDevice::flush() {
  Request request(*this, nullptr);
  // Covers what had finished when it was called; what finishes meanwhile may stay in the cache.
  const std::uint64_t covered = next_sequence_;
  const Status timed = co_await take_time(request, 0, plan_.flush_delay);
  if (!timed) co_return timed.error().with_context("flush");
  if (flush_failed_ || draw(plan_.flush_error_ppm)) {
    // As the kernel does it: the pages count as clean although they were not written (I11).
    flush_failed_ = true;
    cache_.clear();
    cache_bytes_ = 0;
    co_return Error::from_errno(EIO, info().name + ": flush");
  }
  make_durable_until(covered);
  co_return Status();
}

Task<Result<std::vector<Extent>>> FaultDevice::extents(std::uint64_t offset, std::uint64_t length) {
  Request request(*this, nullptr);
  const Status timed = co_await take_time(request, 0);
  if (!timed) co_return timed.error();
  if (draw(plan_.read_error_ppm)) co_return Error::from_errno(EIO, info().name + ": extents");
  if (writes_done_ > 0) plan_.misdirected_write_ppm = 0;
  co_return visible_.peek_extents(offset, length, plan_.most_extents);
}

Task<Status> FaultDevice::close() { co_return Status(); }

void FaultDevice::unstall() {
  stalled_ = false;
  wake_.pulse();
}

void FaultDevice::abandon() {
  if (abandoned_) return;
  abandoned_ = true;
  // What was sent may have reached the medium, unless a crash has decided about it before. Nothing
  // takes effect after this call.
  for (const Request* request : requests_) {
    if (request->change_ == nullptr || request->change_->length == 0) continue;
    if (request->generation_ != generation_) continue;
    if (random_.chance(1, 2)) continue;
    if (!reserve_space(*request->change_)) continue;
    commit(*request->change_, false);
  }
  ++generation_;
  wake_.pulse();
}

void FaultDevice::crash() {
  ++generation_;
  for (const Change& change : cache_) survive_crash(change);
  for (const Request* request : requests_) {
    if (request->change_ != nullptr) survive_crash(*request->change_);
  }
  cache_.clear();
  cache_bytes_ = 0;
  visible_.assign(durable_);
  flush_failed_ = false;
  busy_until_ = loop_.now();
  wake_.pulse();
}

void FaultDevice::disconnect() {
  connected_ = reachable_ = false;
  crash();
}

std::optional<Error> FaultDevice::lost() const {
  if (connected_) return std::nullopt;
  return disconnected("disconnected");
}

Task<Status> FaultDevice::revive() {
  BM_CHECK(requests_.empty());
  const Duration handshake = plan_.max_delay;
  co_await sleep_for(loop_, handshake);
  if (abandoned_ || !reachable_) co_return disconnected("not to be reached");
  connected_ = true;
  // Opened anew, with nothing remembered: what a failed flush has dropped is not seen any more.
  visible_.assign(durable_);
  for (const Change& change : cache_) apply_to(visible_, change);
  flush_failed_ = false;
  co_return Status();
}

void FaultDevice::peek(std::uint64_t offset, MutableBytes into) const {
  visible_.peek(offset, into);
}

void FaultDevice::peek_durable(std::uint64_t offset, MutableBytes into) const {
  durable_.peek(offset, into);
}

void FaultDevice::preload(std::uint64_t offset, ConstBytes from) {
  durable_.poke(offset, from);
  visible_.poke(offset, from);
}

void FaultDevice::fill(std::byte value) {
  BM_CHECK(requests_.empty());
  cache_.clear();
  cache_bytes_ = 0;
  durable_.fill(value);
  visible_.fill(value);
}

/// The time that a request of `length` payload bytes takes; kDisconnected if the device went away.
Task<Status> FaultDevice::take_time(const Request& request, std::uint64_t length, Duration more) {
  if (withdrawn_) co_return disconnected("given up");
  Duration needed = plan_.min_delay + more;
  if (plan_.max_delay > plan_.min_delay) {
    const auto spread = static_cast<std::uint64_t>((plan_.max_delay - plan_.min_delay).count());
    needed += Duration(static_cast<Duration::rep>(random_.below(spread + 1)));
  }
  const bool slow = request.change_ != nullptr || !plan_.slow_writes_only;
  if (slow && draw(plan_.slow_ppm)) needed += plan_.slow_delay;
  TimePoint deadline = loop_.now() + needed;
  if (plan_.bytes_per_second != 0) {
    const std::uint64_t transfer_ns = length * 1'000'000'000 / plan_.bytes_per_second;
    busy_until_ =
        std::max(busy_until_, loop_.now()) + Duration(static_cast<Duration::rep>(transfer_ns));
    deadline = std::max(deadline, busy_until_);
  }
  while (!abandoned_ && connected_ && request.generation_ == generation_) {
    if (stalled_) {
      co_await wake_.wait();
      continue;
    }
    if (loop_.now() >= deadline) co_return Status();
    co_await wake_.wait_until(deadline);
  }
  co_return disconnected(abandoned_ ? "abandoned" : connected_ ? "crashed" : "disconnected");
}

FaultDevice::Fate FaultDevice::draw_write_fate() {
  if (draw(plan_.write_error_ppm)) return Fate::kError;
  if (draw(plan_.lost_write_ppm)) return Fate::kLost;
  if (draw(plan_.torn_write_ppm)) return Fate::kTorn;
  if (draw(plan_.misdirected_write_ppm)) return Fate::kMisdirected;
  return Fate::kGood;
}

/// The instant at which a write, trim or write_zeroes takes effect, or whatever was drawn instead.
Status FaultDevice::finish_change(Change change, bool fua) {
  const Fate fate = draw_write_fate();
  if (fate == Fate::kLost) {
    ++writes_done_;
    return {};
  }
  const Status room = reserve_space(change);
  if (!room) return room;
  const std::string where = info().name + ": write at " + std::to_string(change.offset);
  if (fate == Fate::kMisdirected && change.length < info().size_bytes) {
    const std::uint64_t places = (info().size_bytes - change.length) / kSectorBytes;
    change.offset = random_.below(places + 1) * kSectorBytes;
  }
  if (fate == Fate::kError || fate == Fate::kTorn) {
    // As single changes, so that a crash may drop them one by one too.
    for (Change& sector : draw_sectors(change)) commit(std::move(sector), fua);
    if (fate == Fate::kError) return Error::from_errno(EIO, where);
  } else {
    commit(std::move(change), fua);
  }
  ++writes_done_;
  return {};
}

Status FaultDevice::reserve_space(const Change& change) {
  if (plan_.space_bytes == UINT64_MAX || (change.data.empty() && change.deallocate)) return {};
  const std::uint64_t missing = visible_.missing_bytes(change.offset, change.length);
  if (missing == 0 || visible_.allocated_bytes() + missing <= plan_.space_bytes) return {};
  return Error::from_errno(ENOSPC, info().name + ": write at " + std::to_string(change.offset));
}

/// Makes `change` visible, and durable if `fua`.
void FaultDevice::commit(Change change, bool fua) {
  change.sequence = next_sequence_++;
  change.durable = fua;
  apply_to(visible_, change);
  // Older cached writes to the range may reach the medium later than this one: it stays in the
  // list, so that a replay ends with it.
  if (fua) apply_to(durable_, change);
  cache_bytes_ += change.data.size();
  cache_.push_back(std::move(change));
  if (cache_bytes_ > kCacheLimitBytes || cache_.size() > kCacheLimitChanges) {
    make_durable_until(cache_.front().sequence + cache_.size() / 2);
  }
}

void FaultDevice::make_durable_until(std::uint64_t sequence) {
  while (!cache_.empty() && cache_.front().sequence < sequence) {
    apply_to(durable_, cache_.front());
    cache_bytes_ -= cache_.front().data.size();
    cache_.pop_front();
  }
  // What just became durable is older than what fua made durable before it.
  for (const Change& newer : cache_) {
    if (newer.durable) apply_to(durable_, newer);
  }
}

void FaultDevice::survive_crash(const Change& change) {
  if (change.durable) {
    apply_to(durable_, change);
    return;
  }
  switch (random_.below(3)) {
    case 0:
      apply_to(durable_, change);
      break;
    case 1:
      for (const Change& sector : draw_sectors(change)) apply_to(durable_, sector);
      break;
    case 2:
      break;
  }
}

void FaultDevice::apply_to(MemoryDevice& image, const Change& change) const {
  if (change.data.empty()) {
    image.poke_zeroes(change.offset, change.length, change.deallocate);
  } else {
    image.poke(change.offset, change.data);
  }
}

/// Each sector of `change` with probability one half. Boundaries are the disk's, not the request's:
/// a sector is never torn (I2).
std::vector<FaultDevice::Change> FaultDevice::draw_sectors(const Change& change) {
  std::vector<Change> sectors;
  const std::uint64_t end = change.offset + change.length;
  for (std::uint64_t at = change.offset; at < end;) {
    const std::uint64_t stop = std::min(end, align_down(at, kSectorBytes) + kSectorBytes);
    if (random_.chance(1, 2)) {
      Change sector;
      sector.offset = at;
      sector.length = stop - at;
      if (!change.data.empty()) {
        const ConstBytes data = ConstBytes(change.data).subspan(at - change.offset, stop - at);
        sector.data.assign(data.begin(), data.end());
      }
      sectors.push_back(std::move(sector));
    }
    at = stop;
  }
  return sectors;
}

Error FaultDevice::disconnected(const char* reason) const {
  return Error(ErrorCode::kDisconnected, info().name + ": " + reason);
}

}  // namespace blockmig
