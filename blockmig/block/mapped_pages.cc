// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/mapped_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/block/file_extents.h"

namespace blockmig {
namespace {

// Beyond this, forgetting unit by unit would hold the caller up; all units are doubted instead.
constexpr std::uint64_t kMaxForgottenUnits = 4096;
// How many attached units one search for room looks at.
constexpr std::size_t kSearchedUnits = 64;
// What a long access counts: a whole unit read is worth its page tables at once; large writes earn
// leave when a group was written over for the second time, so a stream that is written once never
// pays for it.
// A group that needs leave again sooner has to earn it.
constexpr std::uint32_t kGenerationsBetweenGrants = 2;
constexpr int kPagesPerReadVote = 8;
constexpr int kPagesPerWriteVote = 16;
// A copy slower than a few microseconds and 2 GB/s met the kernel.
constexpr Duration kCopyGrace = std::chrono::microseconds(4);
constexpr std::uint64_t kCopyBytesPerNs = 2;

constexpr auto kRelaxed = std::memory_order_relaxed;

std::uint64_t mask_of(std::uint64_t first, std::uint64_t count) {
  const std::uint64_t ones = count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
  return ones << first;
}

std::uint32_t votes_of(std::uint64_t mask, int pages_per_vote) {
  return static_cast<std::uint32_t>(std::max(1, std::popcount(mask) / pages_per_vote));
}

}  // namespace

Result<std::unique_ptr<MappedPages>> MappedPages::create(std::unique_ptr<FileMapping> mapping,
                                                         int fd, bool has_holes,
                                                         std::size_t max_units) {
  BM_CHECK(max_units > 0);
  const std::uint64_t unit_bytes = kUnitPages * mapping->page_bytes();
  const auto count = static_cast<std::size_t>(div_up(mapping->size_bytes(), unit_bytes));
  // Zero pages until touched: the table of a huge disk costs what is used of it.
  void* const table = ::mmap(nullptr, count * sizeof(Unit), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (table == MAP_FAILED) return Error::from_errno(errno, "table of mapped pages");
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
  return std::unique_ptr<MappedPages>(new MappedPages(std::move(mapping), fd, has_holes, max_units,
                                                      static_cast<Unit*>(table), count));
}

MappedPages::MappedPages(std::unique_ptr<FileMapping> mapping, int fd, bool has_holes,
                         std::size_t max_units, Unit* units, std::size_t count)
    : mapping_(std::move(mapping)),
      fd_(fd),
      has_holes_(has_holes),
      max_units_(max_units),
      units_(units),
      count_(count) {}

MappedPages::~MappedPages() { ::munmap(units_, count_ * sizeof(Unit)); }

std::size_t MappedPages::attached_units() const {
  const std::lock_guard lock(mutex_);
  return attached_.size();
}

template <typename Visit>
void MappedPages::for_parts(ByteRange range, Visit visit) {
  if (range.empty()) return;
  std::uint64_t page = range.offset / mapping_->page_bytes();
  const std::uint64_t last = (range.end() - 1) / mapping_->page_bytes();
  while (page <= last) {
    const std::uint64_t unit = page / kUnitPages;
    const std::uint64_t end = std::min(last + 1, (unit + 1) * kUnitPages);
    if (!visit(Part{unit, mask_of(page % kUnitPages, end - page)})) return;
    page = end;
  }
}

bool MappedPages::may_touch_part(const Part& part, std::uint32_t generation, bool for_writing) {
  Unit& unit = units_[part.unit];
  std::uint64_t pages = unit.readable.load(kRelaxed);
  if ((pages & part.mask) != part.mask) return false;
  if (for_writing) {
    if (unit.epoch.load(kRelaxed) != epoch_.load(kRelaxed)) return false;
    if ((unit.writable.load(kRelaxed) & part.mask) != part.mask) return false;
  }
  if (unit.generation.load(kRelaxed) == generation) return true;
  look_again(part.unit, generation);
  return (unit.readable.load(kRelaxed) & part.mask) == part.mask;
}

/// What has left memory since is not readable any more.
void MappedPages::look_again(std::uint64_t index, std::uint32_t generation) {
  Unit& unit = units_[index];
  std::uint32_t before = unit.generation.load(kRelaxed);
  if (before == generation || !unit.generation.compare_exchange_strong(before, generation)) {
    return;  // another thread does it
  }
  const std::uint64_t resident = mapping_->resident(index * kUnitPages);
  unit.readable.fetch_and(resident, kRelaxed);
}

bool MappedPages::may_touch(ByteRange range, std::uint32_t generation, bool for_writing) {
  generation += extra_generations_.load(kRelaxed);
  bool all = true;
  for_parts(range, [&](const Part& part) {
    all = may_touch_part(part, generation, for_writing);
    return all;
  });
  return all;
}

ConstBytes MappedPages::readable(ByteRange range, std::uint32_t generation) {
  if (!may_touch(range, generation, false)) return {};
  return mapping_->bytes(range);
}

MutableBytes MappedPages::writable(ByteRange range, std::uint32_t generation) {
  if (mapping_->read_only() || !may_touch(range, generation, true)) return {};
  return mapping_->bytes(range);
}

bool MappedPages::read(std::uint64_t offset, MutableBytes into, std::uint32_t generation) {
  return may_touch({offset, into.size()}, generation, false) && mapping_->read(offset, into);
}

bool MappedPages::write(std::uint64_t offset, ConstBytes from, std::uint32_t generation) {
  if (!may_touch({offset, from.size()}, generation, true)) return false;
  if (mapping_->write(offset, from)) return true;
  // What the unit knew was wrong: somebody else changed the file.
  forget({offset, from.size()});
  return false;
}

void MappedPages::was_read(ByteRange range, std::uint32_t generation) {
  generation += extra_generations_.load(kRelaxed);
  for_parts(range, [&](const Part& part) {
    Unit& unit = units_[part.unit];
    if ((unit.readable.load(kRelaxed) & part.mask) == part.mask) return true;
    const std::uint32_t votes = votes_of(part.mask, kPagesPerReadVote);
    if (unit.reads.fetch_add(votes, kRelaxed) + votes < kReadTouches) return true;
    unit.reads.store(0, kRelaxed);
    make_readable(part.unit, generation);
    return true;
  });
}

void MappedPages::was_written(ByteRange range, std::uint32_t generation) {
  if (mapping_->read_only()) return;
  generation += extra_generations_.load(kRelaxed);
  const std::uint32_t epoch = epoch_.load(kRelaxed);
  for_parts(range, [&](const Part& part) {
    Unit& group = first_of_group(part.unit);
    if (group.writes_epoch.load(kRelaxed) != epoch) {
      group.writes_epoch.store(epoch, kRelaxed);
      group.writes.store(0, kRelaxed);
    }
    const std::uint32_t votes = votes_of(part.mask, kPagesPerWriteVote);
    if (group.writes.fetch_add(votes, kRelaxed) + votes < kWriteTouches) return true;
    group.writes.store(0, kRelaxed);
    make_writable(part.unit / kGroupUnits, generation, epoch);
    return true;
  });
}

void MappedPages::copied(ByteRange range, Duration took, std::uint32_t generation) {
  const auto usual = Duration(static_cast<Duration::rep>(range.length / kCopyBytesPerNs));
  if (took <= kCopyGrace + usual || range.empty()) return;
  Unit& group = first_of_group(range.offset / unit_bytes());
  if (group.slow_generation.load(kRelaxed) != generation) {
    group.slow_generation.store(generation, kRelaxed);
    group.slow.store(0, kRelaxed);
  }
  if (group.slow.fetch_add(1, kRelaxed) + 1 < kSlowCopies) return;
  group.slow.store(0, kRelaxed);
  // Written back meanwhile, most likely. It is in use: leave at once is cheaper than a fault for
  // each of its pages. If that did not help for long, somebody writes it back all the time.
  generation += extra_generations_.load(kRelaxed);
  if (generation - group.granted_generation.load(kRelaxed) >= kGenerationsBetweenGrants) {
    make_writable(range.offset / unit_bytes() / kGroupUnits, generation, epoch_.load(kRelaxed));
  } else {
    take_leave_away(range);
  }
}

/// From the groups of the range.
void MappedPages::take_leave_away(ByteRange range) {
  for_parts(groups_around(range), [&](const Part& part) {
    Unit& unit = units_[part.unit];
    if (unit.writable.load(kRelaxed) != 0) unit.writable.store(0, kRelaxed);
    return true;
  });
}

void MappedPages::forget(ByteRange range) {
  if (range.length / unit_bytes() > kMaxForgottenUnits) {
    epoch_.fetch_add(1, kRelaxed);
    extra_generations_.fetch_add(1, kRelaxed);
    return;
  }
  const std::uint64_t end = std::min(range.end(), mapping_->size_bytes());
  if (range.offset >= end) return;
  const ByteRange inside{range.offset, end - range.offset};
  for_parts(inside, [&](const Part& part) {
    Unit& unit = units_[part.unit];
    if (unit.readable.load(kRelaxed) != 0) unit.readable.fetch_and(~part.mask, kRelaxed);
    return true;
  });
  take_leave_away(inside);
}

/// The pages that were filled in.
std::uint64_t MappedPages::populate(std::uint64_t unit, std::uint64_t pages, bool for_writing) {
  std::uint64_t done = 0;
  for (std::uint64_t left = pages; left != 0;) {
    const auto first = static_cast<std::uint64_t>(std::countr_zero(left));
    const auto count = static_cast<std::uint64_t>(std::countr_one(left >> first));
    const std::uint64_t run = mask_of(first, count);
    if (mapping_->populate(unit * kUnitPages + first, count, for_writing)) done |= run;
    left &= ~run;
  }
  return done;
}

void MappedPages::make_readable(std::uint64_t index, std::uint32_t generation) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock || !attach(index, generation)) return;
  Unit& unit = units_[index];
  const std::uint64_t resident = mapping_->resident(index * kUnitPages);
  const std::uint64_t had = unit.readable.fetch_and(resident, kRelaxed) & resident;
  unit.readable.fetch_or(populate(index, resident & ~had, false), kRelaxed);
  unit.generation.store(generation, kRelaxed);
}

/// Page tables that exist for reading are changed one fault per page; where a group of pages has
/// none at all, one fault fills them in for as many of its pages as the page cache keeps together.
/// So they are dropped first: 25 times cheaper on ext4.
void MappedPages::make_writable(std::uint64_t group, std::uint32_t generation,
                                std::uint32_t epoch) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  const std::uint64_t begin = group * kGroupUnits;
  const std::uint64_t end = std::min<std::uint64_t>(begin + kGroupUnits, count_);
  if (has_holes_ && !is_allocated(fd_, groups_around({begin * unit_bytes(), 1}))) return;
  for (std::uint64_t index = begin; index < end; ++index) {
    if (!attach(index, generation)) return;
  }
  mapping_->drop(begin * kUnitPages, kGroupPages);
  units_[begin].granted_generation.store(generation, kRelaxed);
  for (std::uint64_t index = begin; index < end; ++index) {
    Unit& unit = units_[index];
    const std::uint64_t done = populate(index, mapping_->resident(index * kUnitPages), true);
    unit.readable.store(done, kRelaxed);
    unit.writable.store(done, kRelaxed);
    unit.epoch.store(epoch, kRelaxed);
    unit.generation.store(generation, kRelaxed);
  }
}

/// The range, widened to whole groups of pages.
ByteRange MappedPages::groups_around(ByteRange range) const {
  const std::uint64_t group_bytes = kGroupPages * mapping_->page_bytes();
  const std::uint64_t begin = align_down(range.offset, group_bytes);
  const std::uint64_t end = std::min(align_up(range.end(), group_bytes), mapping_->size_bytes());
  return {begin, end - begin};
}

/// A place among the units with page tables; mutex_ is held.
bool MappedPages::attach(std::uint64_t index, std::uint32_t generation) {
  Unit& unit = units_[index];
  if (unit.attached) return true;
  unit.generation.store(generation, kRelaxed);
  if (attached_.size() < max_units_) {
    attached_.push_back(index);
    unit.attached = true;
    return true;
  }
  for (std::size_t i = 0; i < std::min(kSearchedUnits, attached_.size()); ++i) {
    std::uint64_t& place = attached_[hand_];
    hand_ = (hand_ + 1) % attached_.size();
    if (generation - units_[place].generation.load(kRelaxed) < 2) continue;  // in use
    detach(place);
    place = index;
    unit.attached = true;
    return true;
  }
  return false;
}

void MappedPages::detach(std::uint64_t index) {
  Unit& unit = units_[index];
  unit.readable.store(0, kRelaxed);
  unit.writable.store(0, kRelaxed);
  unit.attached = false;
  mapping_->drop(index * kUnitPages, kUnitPages);
}

}  // namespace blockmig
