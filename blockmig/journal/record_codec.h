// SPDX-License-Identifier: Apache-2.0
// The bytes of the journal's keys and values. Layout in FORMAT.md. No I/O; pure functions; any
// thread.
//
// Encoding fails with kInvalid where a name is empty or a record exceeds its limit. Decoding fails
// with kProtocol where the value is damaged, truncated, of another kind, or stands under another
// key (its checksum covers the key), and with kPrecondition where its version is newer. Messages
// name the key.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "blockmig/base/error.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

std::string disk_key(const std::string& disk);
std::string job_key(const std::string& id);

Result<std::string> encode_disk(const DiskRecord& record);
Result<std::string> encode_job(const JobRecord& record);
std::string encode_schema(std::uint32_t version);

Result<DiskRecord> decode_disk(std::string_view key, std::string_view value);
Result<JobRecord> decode_job(std::string_view key, std::string_view value);
Result<std::uint32_t> decode_schema(std::string_view value);

}  // namespace blockmig
