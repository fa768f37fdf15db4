// SPDX-License-Identifier: Apache-2.0
// ExportFacts: what a client is told about an export, derived once from its device.
// Pure values; any thread.
#pragma once

#include <cstdint>

#include "nbdserver/export.h"
#include "nbdserver/wire.h"

namespace blockmig::nbd {

struct ExportFacts {
  std::uint64_t size_bytes = 0;
  std::uint32_t minimum_block = 1;       ///< power of two <= 64 KiB
  std::uint32_t preferred_block = 4096;  ///< power of two >= max(minimum, 512)
  std::uint32_t maximum_payload = 32u << 20;
  std::uint32_t max_io_bytes = 32u << 20;  ///< what the device takes in one read or write
  bool read_only = false;
  bool can_trim = true;
  bool can_fast_zero = false;
};

/// `advertised_max_bytes` as in NbdServerLimits. Values that the specification forbids ("Size
/// constraints") are rounded to the next legal one.
ExportFacts export_facts(Export& disk, std::uint32_t advertised_max_bytes);

/// The transmission flags of an export. DF only with structured or extended replies; the payload
/// form of BLOCK_STATUS only with extended headers and selected contexts.
std::uint16_t transmission_flags(const ExportFacts& facts, HeaderStyle style, bool has_contexts);

}  // namespace blockmig::nbd
