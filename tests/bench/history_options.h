// SPDX-License-Identifier: Apache-2.0
// What history_client is asked to do.
#pragma once

#include <cstdint>

#include "tests/bench/nbd_connection.h"

namespace blockmig::bench {

struct HistoryOptions {
  Endpoint endpoint;
  std::uint64_t region_offset = 0;  ///< a multiple of 512
  std::uint64_t region_bytes = 0;   ///< 0: to the end of the export (its last whole sector)
  unsigned connections = 4;
  unsigned depth = 4;  ///< requests in flight, per connection
  double rate = 0;     ///< requests per second, all connections; 0: as fast as it goes
  unsigned write_percent = 50;
  unsigned zero_percent = 3;          ///< of the writes: WRITE_ZEROES
  std::uint32_t max_bytes = 1 << 20;  ///< of the largest request
  double renew_ms = 100;  ///< replace the oldest connection by a new one so often; 0: never
  double seconds = 0;     ///< 0: until SIGTERM or `quit`
  double drain_seconds = 30;
  bool tolerate_torn = false;
  std::uint64_t seed = 1;
};

/// kInvalid with a sentence for the person; prints the usage and exits 0 for --help.
Result<HistoryOptions> parse_history_options(int argc, char** argv);

}  // namespace blockmig::bench
