// SPDX-License-Identifier: Apache-2.0
// What nbdload is asked to do. Sizes in bytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

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
  double rate = 0;                 ///< requests per second of each connection; 0: as many as it can
  /// So much of the writes goes to so much of the pieces of kHotPieceBytes, spread evenly.
  unsigned hot_write_percent = 0;
  unsigned hot_piece_percent = 5;
  /// Every counted request goes in there: see RequestRecord.
  std::string record_path;
  int cpu = -1;          ///< run there only; -1: anywhere
  unsigned spin_us = 0;  ///< poll that long before sleeping
  bool fua = false;
  bool verify = false;
  std::uint64_t seed = 1;
  const std::atomic<bool>* interrupted = nullptr;  ///< true ends the run early, with its figures
};

/// What a chunk of a migration is by default.
inline constexpr std::uint64_t kHotPieceBytes = 64 * 1024;

/// kInvalid with a sentence for the person; prints the usage and exits 0 for --help.
Result<LoadOptions> parse_load_options(int argc, char** argv);

}  // namespace blockmig::bench
