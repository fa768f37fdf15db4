// SPDX-License-Identifier: Apache-2.0
// BackupRecord: what lies beside a copy made by `blockmig backup`, as IMAGE.blockmig-backup (the
// text is described in tools/daemon/README.md). Values; any thread.
//
// A copy names the bitmaps that marked every write of its disk from its instant on, or from
// earlier: copying what such a bitmap marks at a later instant makes it the disk of that instant.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/base/error.h"

namespace blockmig {

struct BackupRecord {
  struct Bitmap {
    std::string name;  ///< for people
    std::string id;    ///< of its beginning
    friend bool operator==(const Bitmap&, const Bitmap&) = default;
  };
  std::string disk;
  std::uint64_t size_bytes = 0;
  bool complete = false;  ///< it is the disk of one instant, durably
  std::string since;      ///< bitmap whose marks were copied last; empty: everything was copied
  /// Of the copy's instant. While it is incomplete: of the instant that it was before; empty where
  /// it was never complete.
  std::vector<Bitmap> bitmaps;
  /// Size and time of its last change; empty while it is written to.
  std::string image;
  std::uint64_t inode = 0;  ///< while incomplete: the file that is written to
  friend bool operator==(const BackupRecord&, const BackupRecord&) = default;
};

std::string to_json(const BackupRecord& record);
/// kPrecondition: of a newer program. kInvalid: no such text.
Result<BackupRecord> backup_record_from_json(const std::string& text);

}  // namespace blockmig
