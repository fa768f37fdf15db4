// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/history_options.h"

#include <algorithm>
#include <string>

#include "tests/bench/argument_table.h"
#include "tests/bench/sector_stamp.h"

namespace blockmig::bench {
namespace {

constexpr const char kUsage[] =
    "usage: history_client --connect unix:PATH|tcp:HOST:PORT [--export NAME]\n"
    "  --offset BYTES --length BYTES   the part of the disk to use (default: all of it)\n"
    "  --connections N  --depth N      (4, 4)\n"
    "  --rate N             requests per second (default: as fast as it goes)\n"
    "  --writes PERCENT     (50), --zeroes PERCENT of them (3)\n"
    "  --largest BYTES      largest request (1M)\n"
    "  --renew MS           open a new connection, retire the oldest, so often (100; 0: never)\n"
    "  --seconds S          stop by itself\n"
    "  --drain S            how long unanswered requests are waited for at the end (30)\n"
    "  --tolerate-torn      a read beside a write to the same sector may return a bit of both, as\n"
    "                       servers that copy into the page cache on several threads do\n"
    "  --seed N\n"
    "Writes, reads and checks every sector it reads against the history of that sector. Stops on "
    "SIGTERM\n"
    "or `quit`, reads everything once more, and prints a summary. Commands on standard input:\n"
    "  report       figures since the last report     hold      finish what is in flight, flush, "
    "wait\n"
    "  resume       go on                             check F   while held: is F what was "
    "written?\n"
    "  quit         as SIGTERM\n"
    "Prints JSON objects, one a line. Exit 1 on any error reply, lost connection or wrong data.\n";

}  // namespace

Result<HistoryOptions> parse_history_options(int argc, char** argv) {
  HistoryOptions o;
  std::string address;
  std::string name;
  double offset = 0;
  double length = 0;
  double connections = o.connections;
  double depth = o.depth;
  double writes = o.write_percent;
  double zeroes = o.zero_percent;
  double largest = o.max_bytes;
  double seed = 1;
  ArgumentTable table;
  table.text("--connect", &address);
  table.text("--export", &name);
  table.number("--offset", &offset);
  table.number("--length", &length);
  table.number("--connections", &connections);
  table.number("--depth", &depth);
  table.number("--rate", &o.rate);
  table.number("--writes", &writes);
  table.number("--zeroes", &zeroes);
  table.number("--largest", &largest);
  table.number("--renew", &o.renew_ms);
  table.number("--seconds", &o.seconds);
  table.number("--drain", &o.drain_seconds);
  table.number("--seed", &seed);
  table.flag("--tolerate-torn", &o.tolerate_torn);
  if (Status s = table.parse(argc, argv, kUsage); !s) return s.error();
  const auto endpoint = parse_endpoint(address, name);
  if (!endpoint) return endpoint.error();
  o.endpoint = *endpoint;
  o.region_offset = static_cast<std::uint64_t>(offset);
  o.region_bytes = static_cast<std::uint64_t>(length);
  if (o.region_offset % kSectorBytes || o.region_bytes % kSectorBytes) {
    return Error(ErrorCode::kInvalid, "--offset and --length: multiples of 512");
  }
  o.connections = static_cast<unsigned>(std::clamp(connections, 1.0, 256.0));
  o.depth = static_cast<unsigned>(std::clamp(depth, 1.0, 256.0));
  o.write_percent = static_cast<unsigned>(std::min(writes, 100.0));
  o.zero_percent = static_cast<unsigned>(std::min(zeroes, 100.0));
  o.max_bytes = static_cast<std::uint32_t>(std::clamp(largest, 512.0, 33554432.0));
  o.seed = static_cast<std::uint64_t>(seed);
  return o;
}

}  // namespace blockmig::bench
