// SPDX-License-Identifier: Apache-2.0
// Metadata contexts: which an export offers, and which a client's queries select ("Metadata
// querying"). Pure; one loop (it asks the Export for its bitmap names).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockmig/base/bytes.h"
#include "nbdserver/export.h"

namespace blockmig::nbd {

struct MetaContext {
  enum class Kind : std::uint8_t { kAllocation, kDirtyBitmap, kAllocationDepth, kHydration };
  std::uint32_t id = 0;  ///< unique among the contexts of one export; not zero
  Kind kind = Kind::kAllocation;
  /// "base:allocation", "qemu:dirty-bitmap:NAME", "qemu:allocation-depth", "blockmig:hydration"
  std::string name;
  std::string bitmap;  ///< NAME, for kDirtyBitmap
};

/// Everything the export offers, in the order LIST_META_CONTEXT shows it.
std::vector<MetaContext> available_contexts(const Export& disk);

/// A context that was selected before under this number. Nothing if there can be none of that name.
std::optional<MetaContext> context_of(std::uint32_t id, const std::string& name);

/// The data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
struct MetaQuery {
  std::string export_name;
  std::vector<std::string> queries;
};
/// Nothing if it is syntactically wrong: a length that reads past the data, bytes left over, a
/// string longer than 4096 bytes.
std::optional<MetaQuery> parse_meta_query(ConstBytes data);

/// LIST: all of them without queries; "NAMESPACE:" and "qemu:dirty-bitmap:" are wildcards.
/// SET: exact names only; wildcards select nothing. Unknown queries are left out, duplicates count
/// once.
/// Identities are beside these: match_identities().
enum class MetaMatch { kList, kSet };
std::vector<MetaContext> match_contexts(const std::vector<MetaContext>& available,
                                        const std::vector<std::string>& queries, MetaMatch how);
/// LIST only: the names "blockmig:identity:DIGITS" of the export, for "blockmig:identity:" or a
/// name itself. They have no status, so they cannot be selected, and nothing else shows them:
/// without queries LIST means what can be.
std::vector<std::string> match_identities(const Export& disk,
                                          const std::vector<std::string>& queries);

}  // namespace blockmig::nbd
