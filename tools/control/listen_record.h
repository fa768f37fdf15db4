// SPDX-License-Identifier: Apache-2.0
// ListenRecord: how a daemon listens, for the one after it: with a disk in the journal, and in the
// request of a daemon that wants another's place. A value; versioned (blockmig/journal/FORMAT.md).
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/base/error.h"
#include "blockmig/io/stream.h"
#include "nbdserver/listen_protection.h"

namespace blockmig {

inline constexpr std::uint32_t kListenRecordVersion = 1;
/// The topic of the journal's notes; the name is the disk's.
inline constexpr const char* kListenTopic = "listen";

struct ListenRecord {
  ListenProtection protection;
  UnixSocketOptions unix_sockets;
};

std::string to_json(const ListenRecord& record);
/// kPrecondition: a newer version, which may say what this program does not keep. kInvalid: no such
/// text.
Result<ListenRecord> listen_record_from_json(const std::string& text);

}  // namespace blockmig
