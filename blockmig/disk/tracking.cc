// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/tracking.h"

#include <algorithm>

namespace blockmig {

Status DirtyTracking::add(std::string name, std::unique_ptr<DirtyBitmap> bitmap) {
  if (find(name) != nullptr) return Error(ErrorCode::kBusy, "bitmap '" + name + "' exists already");
  named_.emplace_back(std::move(name), std::move(bitmap));
  return {};
}

Status DirtyTracking::remove(std::string_view name) {
  const auto place = std::find_if(named_.begin(), named_.end(),
                                  [&](const auto& entry) { return entry.first == name; });
  if (place == named_.end()) {
    return Error(ErrorCode::kNotFound, "no bitmap '" + std::string(name) + "'");
  }
  named_.erase(place);
  return {};
}

const DirtyBitmap* DirtyTracking::find(std::string_view name) const {
  for (const auto& [entry_name, bitmap] : named_) {
    if (entry_name == name) return bitmap.get();
  }
  return nullptr;
}

std::vector<std::string> DirtyTracking::names() const {
  std::vector<std::string> names;
  for (const auto& entry : named_) names.push_back(entry.first);
  return names;
}

}  // namespace blockmig
