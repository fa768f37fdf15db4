// SPDX-License-Identifier: Apache-2.0
// What DirtyBitmap::mark() costs on the data path, in nanoseconds per call, and what a lease costs
// per chunk. Prints one line per case; no verdict.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/random.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kDiskBytes = 16 * kTiB;
constexpr std::size_t kCalls = 4'000'000;

std::unique_ptr<DirtyBitmap> make() {
  auto bitmap = DirtyBitmap::create(kDiskBytes, kDefaultGranularityBytes);
  BM_CHECK(bitmap.ok());
  return *std::move(bitmap);
}

template <typename Function>
void measure(const char* what, std::size_t count, Function function) {
  const auto begin = std::chrono::steady_clock::now();
  function();
  const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - begin;
  std::printf("%-52s %7.2f ns\n", what, taken.count() / static_cast<double>(count));
}

/// 4 KiB writes at random places of the disk's first `span_bytes`.
std::vector<std::uint64_t> offsets(std::uint64_t span_bytes) {
  Random random(1);
  std::vector<std::uint64_t> result(kCalls);
  for (std::uint64_t& offset : result) offset = random.below(span_bytes / 4096) * 4096;
  return result;
}

void mark_cases(const char* hot_name, const char* first_name, std::uint64_t span_bytes) {
  const auto bitmap = make();
  const std::vector<std::uint64_t> where = offsets(span_bytes);
  const auto mark = [&] {
    for (const std::uint64_t offset : where) bitmap->mark(offset, 4096);
  };
  measure(first_name, kCalls, mark);
  measure(hot_name, kCalls, mark);
}

void run() {
  mark_cases("mark, already dirty, 10 GiB working set", "mark, from clean, 10 GiB working set",
             10 * kGiB);
  mark_cases("mark, already dirty, 16 TiB working set", "mark, from clean, 16 TiB working set",
             kDiskBytes);
  const auto bitmap = make();
  constexpr std::size_t kChunks = 4'000'000;
  bitmap->mark(0, std::uint64_t{kChunks} * kDefaultGranularityBytes);
  measure("lease and acknowledge, 1,024 chunks at a time, per chunk", kChunks, [&] {
    for (DirtyLease lease = bitmap->lease(0, 1024); !lease.empty();
         lease = bitmap->lease(0, 1024)) {
      lease.acknowledge_all();
    }
  });
}

}  // namespace
}  // namespace blockmig

int main() { blockmig::run(); }
