// SPDX-License-Identifier: Apache-2.0
// What DirtyBitmap::mark() costs on the data path, in nanoseconds per call, and what a lease costs
// per chunk. Prints one line per case; no verdict. With --memory: what a bitmap holds, as JSON.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>
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

struct MemoryCase {
  const char* name;
  double dirty_fraction;
  bool clustered;  ///< in one run, else at random
};

void print_memory(const MemoryCase& c, const char* separator) {
  const auto bitmap = make();
  const auto wanted =
      static_cast<std::uint64_t>(static_cast<double>(bitmap->chunk_count()) * c.dirty_fraction);
  if (c.clustered) bitmap->mark(0, wanted * kDefaultGranularityBytes);
  Random random(1);
  while (bitmap->dirty_count() < wanted) {
    bitmap->mark(random.below(bitmap->chunk_count()) * kDefaultGranularityBytes, 1);
  }
  BM_CHECK(bitmap->lease(bitmap->chunk_count() - 1, 1).chunks().size() <= 1);  // folds the log
  std::printf("%s{\"case\": \"%s\", \"dirty_chunks\": %llu, \"bytes\": %zu, \"flat_bytes\": %llu}",
              separator, c.name, static_cast<unsigned long long>(bitmap->dirty_count()),
              bitmap->memory_bytes(), static_cast<unsigned long long>(bitmap->chunk_count() / 8));
}

void run_memory() {
  const MemoryCase cases[] = {{"clean", 0, true},
                              {"1 % dirty, in one run", 0.01, true},
                              {"1 % dirty, at random", 0.01, false},
                              {"all dirty", 1, true}};
  const char* separator = "[";
  for (const MemoryCase& c : cases) {
    print_memory(c, separator);
    separator = ",\n ";
  }
  std::puts("]");
}

}  // namespace
}  // namespace blockmig

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--memory") {
    blockmig::run_memory();
  } else {
    blockmig::run();
  }
}
