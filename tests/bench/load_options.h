// SPDX-License-Identifier: Apache-2.0
// What nbdload is asked to do. Sizes in bytes.
#pragma once

#include <cstdint>

#include "tests/bench/nbd_connection.h"

namespace blockmig::bench {

enum class Pattern { kRandom, kSequential };

struct LoadOptions {
  Endpoint endpoint;
  Pattern pattern = Pattern::kRandom;
  unsigned write_percent = 0;  ///< 0 reads only, 100 writes only
  std::uint32_t block_bytes = 4096;
  unsigned depth = 16;  ///< requests in flight, per connection
  unsigned connections = 1;
  unsigned threads = 1;  ///< that share the connections
  double seconds = 3;
  double warmup_seconds = 0.3;     ///< before counting begins
  std::uint64_t max_requests = 0;  ///< 0: no limit but time
  std::uint64_t range_bytes = 0;   ///< work on the first so many bytes; 0: the whole export
  int cpu = -1;                    ///< run there only; -1: anywhere
  unsigned spin_us = 0;            ///< poll that long before sleeping
  bool fua = false;
  bool verify = false;
  std::uint64_t seed = 1;
};

/// kInvalid with a sentence for the person; prints the usage and exits 0 for --help.
Result<LoadOptions> parse_load_options(int argc, char** argv);

}  // namespace blockmig::bench
