// SPDX-License-Identifier: Apache-2.0
// VisibleExports: the directory as one peer may see it. What it may not see does not exist for it:
// not in LIST, not by name, and not in the count that decides what the default export is.
//
// `directory` and `access` outlive it. Thread rule: that of the directory.
#pragma once

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "nbdserver/export.h"
#include "nbdserver/export_access.h"

namespace blockmig::nbd {

class VisibleExports final : public ExportDirectory {
 public:
  VisibleExports(ExportDirectory& directory, const ExportAccess& access, PeerIdentities peer)
      : directory_(directory), access_(access), peer_(std::move(peer)) {}

  std::vector<std::shared_ptr<Export>> list() override {
    auto exports = directory_.list();
    std::erase_if(exports, [this](const auto& disk) { return !visible(*disk); });
    return exports;
  }
  std::shared_ptr<Export> find(std::string_view name) override {
    if (name.empty() && access_.has_rules()) {
      const auto exports = list();
      return exports.size() == 1 ? exports.front() : nullptr;
    }
    // By the export's own name: another name for it must not be a way around the rules.
    auto disk = directory_.find(name);
    return disk != nullptr && visible(*disk) ? disk : nullptr;
  }
  bool is_late(std::string_view name) override {
    const bool any = name.empty() && !access_.has_rules();
    return (any || access_.allows(peer_, name)) && directory_.is_late(name);
  }

 private:
  bool visible(const Export& disk) const { return access_.allows(peer_, disk.name()); }

  ExportDirectory& directory_;
  const ExportAccess& access_;
  const PeerIdentities peer_;
};

}  // namespace blockmig::nbd
