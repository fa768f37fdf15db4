// SPDX-License-Identifier: Apache-2.0
// What the command line and the daemon say to each other. Values; json.h turns them into text.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/block/file_device.h"
#include "blockmig/migrate/job_options.h"

namespace blockmig {

inline constexpr std::size_t kMaxDiskNameBytes = 128;
inline constexpr std::size_t kMaxControlBodyBytes = 64 * 1024;
inline constexpr std::size_t kMaxDescriptionBytes = 1024;
inline constexpr std::size_t kMaxListenersPerRequest = 16;
inline constexpr std::size_t kMaxBitmapsPerDisk = 16;

struct BitmapSpec {
  std::string name;
  std::uint32_t granularity_bytes = kDefaultGranularityBytes;
  bool persistent = true;  ///< in the journal too; those of a ServeRequest never are
  bool recording = true;   ///< false: no write marks it; it is there to be merged into
  friend bool operator==(const BitmapSpec&, const BitmapSpec&) = default;
};

/// Why such an address is refused.
inline std::string abstract_name_text(const std::string& address) {
  return "'" + address + "': abstract sockets are served where they are passed (LISTEN_FDS), and " +
         "not opened; a file of that name is unix:./@NAME";
}

/// POST /v1/disks
struct ServeRequest {
  std::string disk;
  std::string source;               ///< canonical store URI; empty: where the journal says
  std::vector<std::string> listen;  ///< "unix:PATH", "tcp:HOST:PORT"; empty: what there is
  bool read_only = false;
  CacheMode cache = CacheMode::kBuffered;
  std::vector<BitmapSpec> bitmaps;
  std::string description;
  std::uint64_t create_size_bytes = 0;  ///< 0: the source must exist
  bool force_source = false;            ///< use `source` though the journal names another
};

/// POST /v1/disks/NAME/bitmaps/TARGET/merge
struct BitmapMerge {
  std::vector<std::string> sources;
  friend bool operator==(const BitmapMerge&, const BitmapMerge&) = default;
};

/// POST /v1/jobs
struct MigrateRequest {
  std::string disk;
  std::string
      target;  ///< canonical store URI; a folder stands for a file of the source's name in it
  JobOptions options;
  /// A point in time into a file that knows what it is a copy of; options.since_bitmap needs it.
  bool backup = false;
  std::optional<BitmapSpec> bitmap;  ///< of a backup: begins with it; recording
};

struct BitmapView {
  std::string name;
  std::uint32_t granularity_bytes = 0;
  std::uint64_t dirty_chunks = 0;
  std::uint64_t dirty_bytes = 0;
  bool persistent = false;
  bool recording = true;
  std::string inconsistent;  ///< why it cannot be trusted; empty if it can
  std::string id{};          ///< of its beginning; empty: of an older program
  friend bool operator==(const BitmapView&, const BitmapView&) = default;
};

/// What a disk does now, measured over about a second.
struct DiskRate {
  double requests_per_second = 0;
  double read_bytes_per_second = 0;
  double write_bytes_per_second = 0;  ///< zeroed bytes included
  double p50_ms = 0;                  ///< of the requests that ended in that second
  double p99_ms = 0;
  double max_ms = 0;
  friend bool operator==(const DiskRate&, const DiskRate&) = default;
};

/// One kind of request since the disk is served.
struct DiskOpView {
  std::string op;
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;
  std::uint64_t bytes = 0;
  std::uint64_t in_flight = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double max_ms = 0;
  friend bool operator==(const DiskOpView&, const DiskOpView&) = default;
};

struct DiskView {
  std::string name;
  std::string store_uri;
  std::string previous_uri;
  /// Where mode `return` would move it back to; empty: what has changed since was not recorded.
  std::string return_to;
  std::uint64_t return_bytes = 0;  ///< what it would copy, at least
  std::string return_lost;         ///< why the record cannot be trusted any more; empty if it can
  std::uint64_t epoch = 0;
  std::string stamp;    ///< "stamped", or why nothing beside the store says whose it is
  std::string trouble;  ///< why requests wait for the store, or fail for good; empty: they do not
  std::uint64_t size_bytes = 0;
  bool read_only = false;
  std::string description;
  std::string job;  ///< the running one; empty if none
  std::uint64_t clients = 0;
  std::vector<std::string> uris;  ///< where clients reach it
  std::vector<BitmapView> bitmaps;
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t in_flight = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double max_ms = 0;
  DiskRate rate;
  std::vector<DiskOpView> ops;
  friend bool operator==(const DiskView&, const DiskView&) = default;
};

struct ClientView {
  std::uint64_t id = 0;
  std::string peer;
  std::string disk;
  std::uint64_t requests = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint32_t in_flight = 0;
  std::uint64_t errors = 0;
  std::uint64_t refused = 0;  ///< of the errors: not even tried
  std::map<std::string, std::uint64_t> requests_by_op;
  double connected_seconds = 0;
  double idle_seconds = 0;  ///< since the last request
  bool tls = false;
  std::string identity;
  std::string style;  ///< of replies: "simple", "structured", "extended"; empty while it negotiates
  friend bool operator==(const ClientView&, const ClientView&) = default;
};

/// Served by an earlier daemon, and not by this one, since it must not be.
struct RefusedDisk {
  std::string disk;
  std::string why;
  friend bool operator==(const RefusedDisk&, const RefusedDisk&) = default;
};

struct DaemonView {
  std::string version;
  std::uint64_t pid = 0;
  std::string state_dir;
  std::string loop;
  double uptime_seconds = 0;
  std::vector<std::string> listen;
  std::string owner{};  ///< identity of the state folder, as in the stamps beside its images
  std::uint64_t bwlimit_bytes_per_second = 0;  ///< of all jobs together; 0: none
  /// Why nothing is recorded any more; empty: the journal works.
  std::string journal_error{};
  /// Served by the daemon before, and not by this one yet: their stores have not answered.
  std::vector<std::string> late_disks{};
  std::vector<RefusedDisk> refused_disks{};
  friend bool operator==(const DaemonView&, const DaemonView&) = default;
};

/// What `blockmig verify` found.
struct CompareReport {
  struct Side {
    std::string uri;
    std::uint64_t size_bytes = 0;
    std::string digest;  ///< of the whole image, hex
  };
  bool equal = false;
  Side a;
  Side b;
  std::uint64_t first_difference = 0;  ///< byte offset; meaningless where equal
  std::uint64_t different_chunks = 0;  ///< of chunk_bytes, in the part that both have
  std::uint64_t chunk_bytes = 0;
};

/// What `blockmig manifest` says of an image at rest.
struct ManifestReport {
  std::string image;
  std::uint64_t size_bytes = 0;
  std::uint64_t generation = 0;
  std::string owner;  ///< disk that depends on it; empty: nobody
  std::uint64_t owner_epoch = 0;
  std::uint64_t chunk_bytes = 0;
  std::uint64_t known_chunks = 0;    ///< with a digest; chunks of zeros are not among them
  std::uint64_t unknown_chunks = 0;  ///< changed after the digests were made
  std::string digest;                ///< of the whole image, hex; empty where chunks are unknown
  bool changing = false;             ///< its owner is leaving it, or being settled into it
  std::string trouble;               ///< why the image is not the manifest's; empty: it is
  bool checked = false;              ///< every chunk was read and compared
  std::uint64_t wrong_chunks = 0;
  std::uint64_t first_wrong = 0;  ///< byte offset; meaningless where none is wrong
};

/// A disk's name appears in URIs, paths and tables: letters, digits and . _ - + : @, not beginning
/// with . or -, at most kMaxDiskNameBytes. kInvalid names what is wrong. Bitmaps follow the same
/// rule.
Status check_name(const char* what, const std::string& name);
/// Of a disk that is to be served: not one that reads as a job's, which commands take as well.
Status check_not_a_job(const std::string& disk);

/// kInvalid: what a backup is asked for does not fit together.
Status check_backup(const MigrateRequest& request);

/// nbd+unix:///DISK?socket=PATH, nbd://HOST:PORT/DISK or nbd+vsock://CID:PORT/DISK for a listening
/// address in SocketAddress::to_string()'s form. A wildcard host becomes localhost. Where nobody is
/// served without TLS the scheme is nbds; what proves the client is the client's to add.
std::string export_uri(const std::string& address, const std::string& disk,
                       bool tls_required = false);

}  // namespace blockmig
