// SPDX-License-Identifier: Apache-2.0
// ByteReader: takes fields off the front of a peer's bytes; every read checks what is left first.
// A value type over borrowed bytes; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "blockmig/base/bytes.h"
#include "blockmig/base/endian.h"

namespace blockmig::nbd {

class ByteReader final {
 public:
  explicit ByteReader(ConstBytes bytes) : bytes_(bytes) {}

  std::size_t left() const { return bytes_.size(); }
  std::optional<std::uint16_t> u16() { return number<std::uint16_t>(); }
  std::optional<std::uint32_t> u32() { return number<std::uint32_t>(); }
  /// `size` bytes as text, borrowed.
  std::optional<std::string_view> text(std::size_t size) {
    if (bytes_.size() < size) return std::nullopt;
    const std::string_view taken(reinterpret_cast<const char*>(bytes_.data()), size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }
  /// A 32-bit length and that much text; nothing if it is longer than `max_bytes`.
  std::optional<std::string_view> string32(std::size_t max_bytes) {
    const auto size = u32();
    if (!size || *size > max_bytes) return std::nullopt;
    return text(*size);
  }

 private:
  template <typename T>
  std::optional<T> number() {
    if (bytes_.size() < sizeof(T)) return std::nullopt;
    const T value = load_be<T>(bytes_.data());
    bytes_ = bytes_.subspan(sizeof(T));
    return value;
  }

  ConstBytes bytes_;
};

}  // namespace blockmig::nbd
