// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/wal_check.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <vector>

#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"
#include "blockmig/base/planted.h"

namespace blockmig {
namespace {

// RocksDB's db/log_format.h.
constexpr std::size_t kBlockBytes = 32768;
constexpr std::size_t kHeaderBytes = 7;  ///< masked CRC32C u32, length u16, type u8
constexpr std::size_t kLengthAt = 4;
constexpr std::size_t kTypeAt = 6;
enum RecordType : std::uint8_t { kZero = 0, kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

/// RocksDB stores checksums masked, because a log may hold bytes that hold checksums
/// (util/crc32c.h).
std::uint32_t unmask(std::uint32_t masked) {
  const std::uint32_t rotated = masked - 0xa282ead8U;
  return (rotated >> 17) | (rotated << 15);
}

/// What a physical record's header says.
struct Header {
  std::uint32_t crc = 0;
  std::size_t length = 0;
  std::uint8_t type = kZero;
};

class Log final {
 public:
  explicit Log(ConstBytes bytes) : bytes_(bytes) {}

  Result<WalState> judge() const {
    std::size_t at = 0;
    bool in_fragments = false;
    while (true) {
      if (block_left(at) < kHeaderBytes) at += block_left(at);  // padding, never read
      if (at >= bytes_.size()) return in_fragments ? WalState::kTorn : WalState::kClean;
      const std::optional<Header> record = valid_record(at);
      if (!record || starts(record->type) == in_fragments) return judge_bad(at, record.has_value());
      in_fragments = record->type == kFirst || record->type == kMiddle;
      at += kHeaderBytes + record->length;
    }
  }

 private:
  static std::size_t block_left(std::size_t at) { return kBlockBytes - at % kBlockBytes; }
  static bool starts(std::uint8_t type) { return type == kFull || type == kFirst; }

  std::optional<Header> header(std::size_t at) const {
    if (block_left(at) < kHeaderBytes || bytes_.size() - at < kHeaderBytes) return std::nullopt;
    Header header;
    header.crc = unmask(load_le<std::uint32_t>(bytes_.data() + at));
    header.length = load_le<std::uint16_t>(bytes_.data() + at + kLengthAt);
    header.type = static_cast<std::uint8_t>(bytes_[at + kTypeAt]);
    return header;
  }
  /// The header at `at`, if a whole record with the right checksum stands there.
  std::optional<Header> valid_record(std::size_t at) const {
    const std::optional<Header> found = header(at);
    if (!found || found->type < kFull || found->type > kLast) return std::nullopt;
    if (kHeaderBytes + found->length > std::min(block_left(at), bytes_.size() - at)) {
      return std::nullopt;
    }
    // The checksum covers the type and the payload.
    const ConstBytes covered = bytes_.subspan(at + kTypeAt, 1 + found->length);
    return crc32c(covered) == found->crc ? found : std::nullopt;
  }

  /// `at` is where the valid prefix ends: torn there, or damaged?
  Result<WalState> judge_bad(std::size_t at, bool valid_but_misplaced) const {
    if (planted(PlantedBug::kDamageIsATornTail)) return WalState::kTorn;
    if (valid_but_misplaced) return damaged(at, "a fragment without its neighbours");
    for (std::size_t later = at + 1; later < bytes_.size(); ++later) {
      // Whatever follows a torn record would have been written after it was synced.
      if (valid_record(later)) return damaged(at, "records follow the bad place");
    }
    const ConstBytes rest = bytes_.subspan(at);
    if (is_all_zero(rest)) return WalState::kTorn;  // the size reached the disk, the bytes did not
    const std::optional<Header> found = header(at);
    if (!found) return WalState::kTorn;
    if (kHeaderBytes + found->length > block_left(at)) return damaged(at, "impossible length");
    if (kHeaderBytes + found->length <= rest.size()) return damaged(at, "checksum");
    if (whole_with_another_length(at, *found)) return damaged(at, "length");
    return WalState::kTorn;
  }

  /// True if the record claims to go on beyond the end, but its checksum is right for what is
  /// there.
  bool whole_with_another_length(std::size_t at, const Header& found) const {
    const std::size_t most = std::min(block_left(at), bytes_.size() - at) - kHeaderBytes;
    std::uint32_t crc = crc32c(bytes_.subspan(at + kTypeAt, 1));
    if (crc == found.crc) return true;
    for (std::size_t i = 0; i < most; ++i) {
      crc = crc32c(bytes_.subspan(at + kHeaderBytes + i, 1), crc);
      if (crc == found.crc) return true;
    }
    return false;
  }

  Error damaged(std::size_t at, const std::string& what) const {
    return Error(ErrorCode::kProtocol, "the log is damaged at byte " + std::to_string(at) + " of " +
                                           std::to_string(bytes_.size()) + ": " + what);
  }

  const ConstBytes bytes_;
};

Result<std::vector<char>> read_whole(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad()) {
    return Error(ErrorCode::kIo, "journal: cannot read " + path.string());
  }
  return content;
}

}  // namespace

Result<WalState> check_wal(ConstBytes log) { return Log(log).judge(); }

Status check_rocksdb_files(const std::string& directory, bool initialised) {
  namespace fs = std::filesystem;
  bool has_current = false;
  bool has_tables = false;
  bool has_log = false;
  std::vector<fs::path> checked;
  std::error_code failed;
  for (fs::directory_iterator at(directory, failed), end; !failed && at != end;
       at.increment(failed)) {
    const fs::path& path = at->path();
    const std::string name = path.filename().string();
    const bool is_log = path.extension() == ".log";
    has_current = has_current || name == "CURRENT";
    has_tables = has_tables || path.extension() == ".sst";
    has_log = has_log || is_log;
    if (is_log || name.starts_with("MANIFEST-")) checked.push_back(path);
  }
  if (failed) return Error::from_errno(failed.value(), "journal: cannot list " + directory);
  if (initialised && !(has_current && has_tables && has_log)) {
    return Error(
        ErrorCode::kProtocol,
        "journal " + directory + " is damaged: " +
            (!has_current ? "CURRENT" : (!has_tables ? "its tables" : "its write-ahead log")) +
            " is missing");
  }
  for (const fs::path& path : checked) {
    const auto content = read_whole(path);
    if (!content) return content.error();
    const auto state = check_wal(std::as_bytes(std::span(*content)));
    if (!state) return state.error().with_context("journal " + path.string());
  }
  return {};
}

}  // namespace blockmig
