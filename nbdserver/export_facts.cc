// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/export_facts.h"

#include <algorithm>
#include <bit>

#include "blockmig/base/bytes.h"

namespace blockmig::nbd {

ExportFacts export_facts(Export& disk, std::uint32_t advertised_max_bytes) {
  const DeviceInfo& info = disk.device().info();
  ExportFacts facts;
  facts.size_bytes = info.size_bytes;
  facts.minimum_block = std::clamp(info.min_io_bytes, 1u, kMaxMinimumBlockBytes);
  const std::uint32_t least = std::max(facts.minimum_block, kPortableBlockBytes);
  const std::uint32_t wanted = std::clamp(info.preferred_io_bytes, least, 1u << 30);
  facts.preferred_block = std::bit_ceil(wanted);
  // A request of the largest size is to be a legal one.
  const std::uint64_t blocks = align_down(advertised_max_bytes, facts.minimum_block);
  facts.maximum_payload = std::max(static_cast<std::uint32_t>(blocks), facts.preferred_block);
  facts.max_io_bytes = std::max(info.max_io_bytes, facts.minimum_block);
  facts.read_only = disk.read_only() || info.read_only;
  facts.can_trim = info.can_trim;
  facts.can_fast_zero = info.can_fast_zero;
  return facts;
}

std::uint16_t transmission_flags(const ExportFacts& facts, HeaderStyle style, bool has_contexts) {
  // MULTI_CONN: every connection of an export goes to the one device, and a flush of it covers all.
  std::uint32_t flags =
      kFlagHasFlags | kFlagSendFlush | kFlagSendFua | kFlagCanMultiConn | kFlagSendCache;
  if (facts.read_only) {
    flags |= kFlagReadOnly;
  } else {
    flags |= kFlagSendWriteZeroes | kFlagSendFastZero;
    if (facts.can_trim) flags |= kFlagSendTrim;
  }
  if (style != HeaderStyle::kSimple) flags |= kFlagSendDf;
  if (style == HeaderStyle::kExtended && has_contexts) flags |= kFlagBlockStatusPayload;
  return static_cast<std::uint16_t>(flags);
}

}  // namespace blockmig::nbd
