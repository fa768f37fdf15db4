// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/bytes.h"

#include <algorithm>
#include <cstring>

namespace blockmig {

bool is_all_zero(ConstBytes bytes) {
  // A block equals zero if its head is zero and it equals itself shifted by the head: memcmp is the
  // fastest comparison the machine has.
  const std::size_t head = std::min<std::size_t>(bytes.size(), 16);
  for (std::size_t i = 0; i < head; ++i) {
    if (bytes[i] != std::byte{0}) return false;
  }
  return bytes.size() == head ||
         std::memcmp(bytes.data(), bytes.data() + head, bytes.size() - head) == 0;
}

}  // namespace blockmig
