// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/sector_stamp.h"

#include <array>
#include <cstdio>
#include <cstring>

#include "tests/bench/block_pattern.h"

namespace blockmig::bench {
namespace {

constexpr std::uint64_t kMagic = 0x524f54434553'4d42u;  // "BMSECTOR", as bytes
constexpr std::size_t kWords = kSectorBytes / 8;

using Words = std::array<std::uint64_t, kWords>;

Words words_of(const char* data) {
  Words words;
  std::memcpy(words.data(), data, kSectorBytes);
  return words;
}

}  // namespace

void stamp_sector(char* out, std::uint64_t run, std::uint64_t sector, std::uint64_t write) {
  Words words;
  words[0] = kMagic;
  words[1] = sector;
  words[2] = write;
  words[3] = run;
  SplitMix rest(mix64(run) ^ mix64(sector + 1) ^ (write << 1));
  for (std::size_t i = 4; i < kWords; ++i) words[i] = rest.next();
  std::memcpy(out, words.data(), kSectorBytes);
}

std::uint64_t hash_sector(const char* data) {
  const Words words = words_of(data);
  std::uint64_t a = 0x9e3779b97f4a7c15u;
  std::uint64_t b = 0xc2b2ae3d27d4eb4fu;
  for (std::size_t i = 0; i < kWords; i += 2) {  // two chains, so that the processor overlaps them
    a = (a ^ words[i]) * 0xbf58476d1ce4e5b9u;
    a ^= a >> 29;
    b = (b ^ words[i + 1]) * 0x94d049bb133111ebu;
    b ^= b >> 31;
  }
  return mix64(a ^ mix64(b));
}

std::uint64_t hash_of_zeros() {
  static const std::uint64_t hash = [] {
    const std::array<char, kSectorBytes> zeros{};
    return hash_sector(zeros.data());
  }();
  return hash;
}

std::string describe_sector(const char* data, std::uint64_t run) {
  const Words words = words_of(data);
  if (hash_sector(data) == hash_of_zeros()) return "zeros";
  char text[160];
  if (words[0] != kMagic) {
    std::snprintf(text, sizeof text, "foreign bytes %016llx %016llx",
                  static_cast<unsigned long long>(words[0]),
                  static_cast<unsigned long long>(words[1]));
    return text;
  }
  std::array<char, kSectorBytes> whole;
  stamp_sector(whole.data(), words[3], words[1], words[2]);
  const bool torn = std::memcmp(whole.data(), data, kSectorBytes) != 0;
  std::snprintf(text, sizeof text, "write %llu of sector %llu%s%s",
                static_cast<unsigned long long>(words[2]),
                static_cast<unsigned long long>(words[1]), words[3] == run ? "" : " by another run",
                torn ? ", torn" : "");
  return text;
}

}  // namespace blockmig::bench
