// SPDX-License-Identifier: Apache-2.0
// WatchTable: finds the FdWatch that a kernel event is about, and knows when it is gone.
//
// The kernel is given a key instead of a pointer: a slot and the slot's generation. Removing a
// watch moves its slot to the next generation, so that events which the kernel still delivers for
// it find nothing. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <vector>

namespace blockmig {

template <typename Watch>
class WatchTable final {
 public:
  /// Below 2^kKeyBits, so that the kernel's 64-bit tag has room for other marks above.
  static constexpr int kKeyBits = 56;

  std::uint64_t add(Watch& watch) {
    if (free_.empty()) {
      free_.push_back(static_cast<std::uint32_t>(slots_.size()));
      slots_.push_back(Slot{});
    }
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    slots_[slot].watch = &watch;
    return key_of(slot);
  }
  void remove(std::uint64_t key) {
    Slot& slot = slots_[slot_of(key)];
    slot.watch = nullptr;
    slot.generation = (slot.generation + 1) & kGenerationMask;
    free_.push_back(slot_of(key));
  }
  /// Null if it was removed.
  Watch* find(std::uint64_t key) const {
    const Slot& slot = slots_[slot_of(key)];
    return key_of(slot_of(key)) == key ? slot.watch : nullptr;
  }
  std::size_t size() const { return slots_.size() - free_.size(); }

 private:
  struct Slot {
    Watch* watch = nullptr;
    std::uint32_t generation = 0;
  };
  static constexpr int kSlotBits = 24;  ///< more descriptors than a process can have by default
  static constexpr std::uint32_t kGenerationMask = 0xffffffff;
  static std::uint32_t slot_of(std::uint64_t key) {
    return static_cast<std::uint32_t>(key & ((1u << kSlotBits) - 1));
  }
  std::uint64_t key_of(std::uint32_t slot) const {
    return static_cast<std::uint64_t>(slots_[slot].generation) << kSlotBits | slot;
  }

  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
};

}  // namespace blockmig
