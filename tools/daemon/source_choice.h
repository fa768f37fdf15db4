// SPDX-License-Identifier: Apache-2.0
// Where a disk's content is opened from: what the user says against what the journal knows (I3,
// I7). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/journal/journal.h"
#include "tools/control/messages.h"
#include "tools/daemon/store_backing.h"

namespace blockmig {

struct SourceChoice {
  std::string uri;
  std::string previous_uri;
  std::uint64_t epoch = 1;
  std::string hydration{};  ///< as DiskRecord: the content is not whole at `uri` yet
  bool known = false;       ///< the journal's store: its size is binding
  /// Of the file that was made for this; empty: it was there before.
  std::vector<StorePart> created{};
};

/// `same`: request.source and record->store_uri name one store.
/// kNotFound: neither names one. kPrecondition: they differ; the message names both and the ways
/// out.
Result<SourceChoice> choose_source(const ServeRequest& request,
                                   const std::optional<DiskRecord>& record, bool same);

}  // namespace blockmig
