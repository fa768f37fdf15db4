// SPDX-License-Identifier: Apache-2.0
// Digests that prove copies equal (I13): XXH3 with 128 bits. Detects accidents, not adversaries.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/base/bytes.h"

namespace blockmig {

struct Digest {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  /// 32 lower-case hexadecimal digits.
  std::string hex() const;
  friend bool operator==(const Digest&, const Digest&) = default;
};

/// XXH3-128 of the bytes. About 10 GB/s from cache.
Digest digest_of(ConstBytes bytes);

/// The same over bytes that arrive in parts; update() any number of times, then finish().
/// Thread rule: one thread at a time.
class DigestStream final {
 public:
  DigestStream();
  ~DigestStream();
  DigestStream(const DigestStream&) = delete;
  DigestStream& operator=(const DigestStream&) = delete;

  void update(ConstBytes bytes);
  Digest finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockmig
