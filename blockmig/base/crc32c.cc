// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/crc32c.h"

#include <array>

#include "blockmig/base/endian.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace blockmig {
namespace {

constexpr std::uint32_t kReflectedPolynomial = 0x82f63b78U;  // RFC 3720 B.4: 0x11edc6f41, reflected

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

/// Slicing by eight (Kounavis, Berry 2005): tables[k][b] is byte b followed by k zero bytes.
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ ((value & 1) != 0 ? kReflectedPolynomial : 0);
    }
    tables[0][byte] = value;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}
constexpr Tables kTables = make_tables();

}  // namespace

namespace detail {

std::uint32_t crc32c_portable(ConstBytes bytes, std::uint32_t seed) {
  std::uint32_t crc = ~seed;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    const std::uint64_t word = load_le<std::uint64_t>(at) ^ crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][(word >> (8 * i)) & 0xff];
  }
  for (; left > 0; --left, ++at) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<std::uint32_t>(*at)) & 0xff];
  }
  return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t crc32c_hardware(ConstBytes bytes,
                                                                std::uint32_t seed) {
  std::uint64_t crc = ~seed;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) crc = _mm_crc32_u64(crc, load_le<std::uint64_t>(at));
  auto narrow = static_cast<std::uint32_t>(crc);
  for (; left > 0; --left, ++at) narrow = _mm_crc32_u8(narrow, static_cast<unsigned char>(*at));
  return ~narrow;
}
bool crc32c_has_hardware() { return __builtin_cpu_supports("sse4.2") != 0; }
#else
std::uint32_t crc32c_hardware(ConstBytes bytes, std::uint32_t seed) {
  return crc32c_portable(bytes, seed);
}
bool crc32c_has_hardware() { return false; }
#endif

}  // namespace detail

std::uint32_t crc32c(ConstBytes bytes, std::uint32_t seed) {
  static const bool hardware = detail::crc32c_has_hardware();
  return hardware ? detail::crc32c_hardware(bytes, seed) : detail::crc32c_portable(bytes, seed);
}

}  // namespace blockmig
