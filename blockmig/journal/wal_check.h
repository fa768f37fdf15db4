// SPDX-License-Identifier: Apache-2.0
// Judges RocksDB's write-ahead log before RocksDB reads it (trap 19).
//
// After a crash the log may end in the middle of the record that was being written: that save was
// never acknowledged and did not happen. Anything else that is wrong is damage to what was
// acknowledged, and must stop the start. RocksDB's own recovery cannot tell the two apart in every
// case: with its tolerant mode a flipped bit in a length field, or a zeroed sector, silently drops
// synced records; with its strict mode a torn tail refuses to open at all. The journal therefore
// opens RocksDB in the tolerant mode, after this check. It rests on one fact: saves are serial and
// each is synced before the next starts, so only the last record of a log can be torn.
//
// Format: RocksDB's db/log_format.h (blocks of 32 KiB; masked CRC32C, length, type). Any thread.
#pragma once

#include <string>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"

namespace blockmig {

enum class WalState {
  kClean,
  kTorn,  ///< ends inside its last record, which was not acknowledged
};

/// One log's content. kProtocol: damaged, with the place.
Result<WalState> check_wal(ConstBytes log);

/// Every log and manifest (it has the same format) of the RocksDB in `directory`, before it is
/// opened: opening deletes what the surviving files do not mention. `initialised`: it was once
/// ready for saves, so it has a CURRENT, a table (the schema) and a log, without which RocksDB
/// would silently start with fewer records or none. kProtocol: damaged, names the file.
Status check_rocksdb_files(const std::string& directory, bool initialised);

}  // namespace blockmig
