// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/source_choice.h"

namespace blockmig {

Result<SourceChoice> choose_source(const ServeRequest& request,
                                   const std::optional<DiskRecord>& record, bool same) {
  if (!record) {
    if (request.source.empty()) {
      return Error(ErrorCode::kNotFound, "disk '" + request.disk +
                                             "' is not known here: say where its content is with "
                                             "--source URI");
    }
    return SourceChoice{request.source, "", 1, "", false};
  }
  if (request.source.empty() || same) {
    return SourceChoice{record->store_uri, record->previous_uri, record->epoch, record->hydration,
                        true};
  }
  if (request.force_source) {
    return SourceChoice{request.source, record->store_uri, record->epoch + 1, "", false};
  }
  return Error(ErrorCode::kPrecondition,
               "disk '" + request.disk + "' lives at " + record->store_uri + " (epoch " +
                   std::to_string(record->epoch) + "), not at " + request.source +
                   ": leave --source out to serve it from there, or give up what was written "
                   "there with --force-source");
}

}  // namespace blockmig
