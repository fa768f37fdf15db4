// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/contiguous_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "blockmig/base/check.h"

namespace blockmig {

std::byte* map_contiguous() {
  // Twice as much holds an aligned piece for certain; what is around it goes back.
  constexpr std::size_t kMapped = 2 * kContiguousBytes;
  void* const pages =
      ::mmap(nullptr, kMapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<std::byte*>(pages);
  const std::size_t before = align_up(reinterpret_cast<std::uintptr_t>(begin), kContiguousBytes) -
                             reinterpret_cast<std::uintptr_t>(begin);
  std::byte* const memory = begin + before;
  if (before != 0) unmap_contiguous(begin, before);
  unmap_contiguous(memory + kContiguousBytes, kMapped - kContiguousBytes - before);
  // Refused where the kernel is built without huge pages: then they are usual ones.
  (void)::madvise(memory, kContiguousBytes, MADV_HUGEPAGE);
  return memory;
}

void unmap_contiguous(std::byte* memory, std::size_t bytes) {
  BM_CHECK(::munmap(memory, bytes) == 0);
}

}  // namespace blockmig
