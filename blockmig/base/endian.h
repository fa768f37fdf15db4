// SPDX-License-Identifier: Apache-2.0
// Big-endian (network order) and little-endian loads and stores on unaligned bytes.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace blockmig {

namespace detail {
template <std::unsigned_integral T>
constexpr T byteswap(T value) {
  if constexpr (sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}
}  // namespace detail

template <std::unsigned_integral T>
T load_be(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return std::endian::native == std::endian::big ? value : detail::byteswap(value);
}
template <std::unsigned_integral T>
void store_be(void* to, T value) {
  if (std::endian::native != std::endian::big) value = detail::byteswap(value);
  std::memcpy(to, &value, sizeof value);
}
template <std::unsigned_integral T>
T load_le(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return std::endian::native == std::endian::little ? value : detail::byteswap(value);
}
template <std::unsigned_integral T>
void store_le(void* to, T value) {
  if (std::endian::native != std::endian::little) value = detail::byteswap(value);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace blockmig
