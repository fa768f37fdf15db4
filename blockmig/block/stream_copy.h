// SPDX-License-Identifier: Apache-2.0
// stream_copy(): a copy whose destination is not wanted in the processor's caches.
//
// For whole pages of a mapping that is far larger than the caches: an ordinary copy first reads
// each line that it is about to overwrite. Measured with 4 KiB random writes at depth 64: 1.17
// times the requests. Thread rule: any; other threads see the copy when it has returned, as they
// would an ordinary one.
#pragma once

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "blockmig/base/bytes.h"

namespace blockmig {

constexpr std::size_t kCacheLineBytes = 64;
/// Below it the lines are more likely to be needed again than worth the detour.
constexpr std::size_t kMinStreamedBytes = 4096;

/// `into` is as long as `from`.
inline void stream_copy(MutableBytes into, ConstBytes from) {
#ifdef __SSE2__
  const bool aligned =
      (reinterpret_cast<std::uintptr_t>(into.data()) | from.size()) % kCacheLineBytes == 0;
  if (aligned && from.size() >= kMinStreamedBytes) {
    auto* to = reinterpret_cast<__m128i*>(into.data());
    const auto* at = reinterpret_cast<const __m128i*>(from.data());
    for (std::size_t left = from.size(); left > 0; left -= kCacheLineBytes, at += 4, to += 4) {
      const __m128i first = _mm_loadu_si128(at);
      const __m128i second = _mm_loadu_si128(at + 1);
      const __m128i third = _mm_loadu_si128(at + 2);
      const __m128i fourth = _mm_loadu_si128(at + 3);
      _mm_stream_si128(to, first);
      _mm_stream_si128(to + 1, second);
      _mm_stream_si128(to + 2, third);
      _mm_stream_si128(to + 3, fourth);
    }
    _mm_sfence();  // these stores keep no order by themselves
    return;
  }
#endif
  std::memcpy(into.data(), from.data(), from.size());
}

}  // namespace blockmig
