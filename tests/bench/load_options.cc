// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/load_options.h"

#include <algorithm>
#include <string>

#include "tests/bench/argument_table.h"

namespace blockmig::bench {
namespace {

constexpr std::uint32_t kMaxBlockBytes = 32u << 20;
constexpr unsigned kMaxDepth = 4096;
constexpr unsigned kMaxConnections = 16384;

constexpr const char kUsage[] =
    "usage: nbdload --connect unix:PATH|tcp:HOST:PORT [--export NAME]\n"
    "  --op read|write|mix|seqread|seqwrite   (default read)\n"
    "  --mix PERCENT        writes in a mix (default 50)\n"
    "  --block BYTES        request size, suffixes k M (default 4k)\n"
    "  --depth N            requests in flight per connection (default 16)\n"
    "  --connections N      (default 1)\n"
    "  --threads N          that share the connections (default 1)\n"
    "  --tls-psk FILE       STARTTLS with the first key of the file\n"
    "  --tls-priority TEXT  versions and ciphers to ask for, as GnuTLS writes them\n"
    "  --seconds S          (default 3), after --warmup S (default 0.3)\n"
    "  --rate N             requests per second of each connection (default: no limit)\n"
    "  --hot PERCENT        of the writes go to --hot-pieces PERCENT (default 5) of the disk's\n"
    "                       64 KiB pieces, spread evenly\n"
    "  --record FILE        every request as two little-endian 32-bit numbers: microseconds from\n"
    "                       record_begin_ns to its end, and those it took\n"
    "  --count N            stop after N requests\n"
    "  --range BYTES        only the first so many bytes of the export\n"
    "  --cpu N              run on that processor only\n"
    "  --spin US            poll so long before sleeping\n"
    "  --fua --verify --seed N\n"
    "Prints one JSON object; SIGTERM ends the run early, with its figures. Exit 1 on any error "
    "reply or wrong data.\n";

bool set_operation(const std::string& op, LoadOptions* o) {
  o->pattern = op.starts_with("seq") ? Pattern::kSequential : Pattern::kRandom;
  if (op == "read" || op == "seqread") {
    o->write_percent = 0;
  } else if (op == "write" || op == "seqwrite") {
    o->write_percent = 100;
  } else {
    return op == "mix";
  }
  return true;
}

Status check(const LoadOptions& o) {
  if (o.block_bytes == 0 || o.block_bytes > kMaxBlockBytes) {
    return Error(ErrorCode::kInvalid, "--block: 1 byte to 32M");
  }
  if (o.depth == 0 || o.depth > kMaxDepth || o.connections == 0 ||
      o.connections > kMaxConnections) {
    return Error(ErrorCode::kInvalid, "--depth 1 to 4096, --connections 1 to 16384");
  }
  if (o.threads == 0 || o.threads > o.connections) {
    return Error(ErrorCode::kInvalid, "--threads: 1 to the number of connections");
  }
  if (o.hot_write_percent > 100 || o.hot_piece_percent == 0 || o.hot_piece_percent > 100) {
    return Error(ErrorCode::kInvalid, "--hot: 0 to 100, --hot-pieces: 1 to 100");
  }
  if (o.hot_write_percent != 0 &&
      (o.pattern == Pattern::kSequential || o.block_bytes > kHotPieceBytes || o.verify)) {
    return Error(ErrorCode::kInvalid,
                 "--hot works with random writes of at most 64 KiB, unverified");
  }
  if (o.rate != 0 && o.threads != o.connections) {
    return Error(ErrorCode::kInvalid, "--rate works with a thread per connection");
  }
  if (!o.record_path.empty() && o.threads > 1) {
    return Error(ErrorCode::kInvalid, "--record works with one thread");
  }
  if (o.max_requests && o.threads > 1) {
    return Error(ErrorCode::kInvalid, "--count works with one thread");
  }
  if (o.verify && o.connections > 1) {
    return Error(ErrorCode::kInvalid, "--verify works on one connection");
  }
  return {};
}

}  // namespace

Result<LoadOptions> parse_load_options(int argc, char** argv) {
  LoadOptions o;
  std::string address;
  std::string name;
  std::string tls_psk_file;
  std::string tls_priority;
  std::string op = "read";
  double mix = 50;
  double block = o.block_bytes;
  double depth = o.depth;
  double connections = o.connections;
  double threads = o.threads;
  double count = 0;
  double range = 0;
  double cpu = -1;
  double hot = 0;
  double hot_pieces = o.hot_piece_percent;
  double spin = 0;
  double seed = 1;
  ArgumentTable table;
  table.text("--connect", &address);
  table.text("--export", &name);
  table.text("--op", &op);
  table.number("--mix", &mix);
  table.number("--block", &block);
  table.number("--depth", &depth);
  table.number("--connections", &connections);
  table.number("--threads", &threads);
  table.text("--tls-psk", &tls_psk_file);
  table.text("--tls-priority", &tls_priority);
  table.number("--seconds", &o.seconds);
  table.number("--warmup", &o.warmup_seconds);
  table.number("--count", &count);
  table.number("--range", &range);
  table.number("--rate", &o.rate);
  table.number("--hot", &hot);
  table.number("--hot-pieces", &hot_pieces);
  table.text("--record", &o.record_path);
  table.number("--cpu", &cpu);
  table.number("--spin", &spin);
  table.number("--seed", &seed);
  table.flag("--fua", &o.fua);
  table.flag("--verify", &o.verify);
  if (Status s = table.parse(argc, argv, kUsage); !s) return s.error();
  o.block_bytes = static_cast<std::uint32_t>(std::min(block, 4e9));
  o.depth = static_cast<unsigned>(std::min(depth, 1e9));
  o.connections = static_cast<unsigned>(std::min(connections, 1e9));
  o.threads = static_cast<unsigned>(std::min(threads, 1e9));
  o.max_requests = static_cast<std::uint64_t>(count);
  o.range_bytes = static_cast<std::uint64_t>(range);
  o.cpu = static_cast<int>(std::min(cpu, 1e4));
  o.spin_us = static_cast<unsigned>(std::min(spin, 1e6));
  o.seed = static_cast<std::uint64_t>(seed);
  o.hot_write_percent = static_cast<unsigned>(std::min(hot, 1e3));
  o.hot_piece_percent = static_cast<unsigned>(std::min(hot_pieces, 1e3));
  o.write_percent = static_cast<unsigned>(std::min(mix, 100.0));
  if (!set_operation(op, &o)) return Error(ErrorCode::kInvalid, "--op: unknown '" + op + "'");
  const auto endpoint = parse_endpoint(address, name);
  if (!endpoint) return endpoint.error();
  o.endpoint = *endpoint;
  o.endpoint.tls_psk_file = tls_psk_file;
  o.endpoint.tls_priority = tls_priority;
  if (Status s = check(o); !s) return s.error();
  return o;
}

}  // namespace blockmig::bench
