// SPDX-License-Identifier: Apache-2.0
// RocksStore: keys and values on stable storage. The wall around RocksDB: nothing else knows it.
//
// Every method blocks; RocksJournal calls them off the loop. Writes are serial, and each is synced
// before it returns (check_wal() rests on that). After a write has failed its effect is unknown, so
// every later call fails too, unattempted (kPrecondition), until the store is opened again: a
// retried sync that succeeds proves nothing (I11). Thread rule: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "blockmig/base/error.h"

namespace blockmig {

class RocksStore {
 public:
  using Record = std::pair<std::string, std::string>;  ///< key, value

  virtual ~RocksStore() = default;

  /// What the first failure said. Never waits, also while a write is under way.
  virtual Status health() const = 0;

  virtual Result<std::optional<std::string>> get(const std::string& key) = 0;
  /// Ascending by key.
  virtual Result<std::vector<Record>> scan(const std::string& prefix) = 0;
  /// Of these at most `limit`, from the key `first` on.
  virtual Result<std::vector<Record>> scan_some(const std::string& prefix, const std::string& first,
                                                std::size_t limit) = 0;
  /// All but those with the prefix.
  virtual Result<std::vector<Record>> scan_all_but(const std::string& prefix) = 0;
  virtual Status put(const std::string& key, const std::string& value) = 0;
  /// All removals, then all puts, or nothing: one record of the log. Of a key that is not there:
  /// success.
  virtual Status apply(const std::vector<Record>& puts, const std::vector<std::string>& removals,
                       const std::vector<std::string>& removed_prefixes = {}) = 0;
  /// Takes the room that this apply() needs in the log, where the filesystem has a way: an error is
  /// of no consequence but that there is none.
  virtual Status reserve(const std::vector<Record>& puts, const std::vector<std::string>& removals,
                         const std::vector<std::string>& removed_prefixes) = 0;
  /// What the filesystem has free; UINT64_MAX where it does not say.
  virtual std::uint64_t free_bytes() const = 0;
  /// Moves what is in the log into a table file.
  virtual Status flush() = 0;
};

/// Opens or creates. kBusy: another process has it. kProtocol: damaged. Names the folder.
Result<std::unique_ptr<RocksStore>> open_rocks_store(const std::string& directory);

}  // namespace blockmig
