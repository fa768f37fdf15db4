// SPDX-License-Identifier: Apache-2.0
// StoreReservations: stores that somebody is about to use, and is not listed with yet.
//
// Who wants a store looks first whether somebody uses it, which takes awaits (stat, an NBD server's
// answer); two that look at the same time must not both find it free. So he reserves it with no
// await after taking the list that he looks into, and holds it until his disk or job is listed: of
// two, the later one has the earlier in its list. Looking at a file may hang, so nobody looks at
// what another is about to use: who has found his says so to his hold, and of two that were looking
// for one file under two names the later one sees the earlier's there (check_found()).
//
// Lifecycle: outlives what it gives out. Thread rule: the loop.
#pragma once

#include <list>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/daemon/store_use.h"

namespace blockmig {

class StoreReservations final {
 public:
  /// Holds a store until it is destroyed.
  class [[nodiscard]] Hold final {
   public:
    Hold(Hold&& other) noexcept : set_(std::exchange(other.set_, nullptr)), use_(other.use_) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (set_ != nullptr) set_->uses_.erase(use_);
    }

    /// Where its bytes are; empty: there is no such file. Known from now on of whoever uses it.
    void found(std::vector<StorePart> parts) {
      set_->keep(use_->uri.text, parts);
      use_->parts = std::move(parts);
    }

   private:
    friend class StoreReservations;
    Hold(StoreReservations& set, std::list<StoreUse>::iterator use) : set_(&set), use_(use) {}

    StoreReservations* set_;
    std::list<StoreUse>::iterator use_;
  };

  Hold reserve(StoreUse use) {
    use.coming = true;
    return {*this, uses_.insert(uses_.end(), std::move(use))};
  }
  const std::list<StoreUse>& uses() const { return uses_; }
  /// What the server of an NBD store said when it was opened to be used.
  void note(const StoreUri& uri, Identities identities) {
    identities_[uri.text] = std::move(identities);
  }
  Identities find_identities(const StoreUri& uri) const {
    const auto known = identities_.find(uri.text);
    return known == identities_.end() ? Identities() : known->second;
  }
  /// Of a store that is used, if it was found when it came into use.
  std::optional<std::vector<StorePart>> find_parts(const StoreUri& uri) const {
    const auto known = parts_.find(uri.text);
    // A file that was not there then has been made since.
    if (known == parts_.end() || known->second.empty()) return std::nullopt;
    return known->second;
  }

  /// Whether find_parts() knows a store by that URI.
  bool knows_parts(const std::string& uri) const {
    const auto known = parts_.find(uri);
    return known != parts_.end() && !known->second.empty();
  }
  /// So much is known that it is worth a look which of it is of stores that nobody uses any more.
  bool knows_much() const { return parts_.size() >= much_; }
  /// Forgets where all others are: whoever uses them again finds them again.
  void keep_only(const std::set<std::string>& used) {
    for (auto known = parts_.begin(); known != parts_.end();) {
      if (used.contains(known->first)) {
        ++known;
        continue;
      }
      forget_places(known->first, known->second);
      known = parts_.erase(known);
    }
    much_ = 2 * parts_.size() + kMuch;
  }
  /// URIs of what lies, or has lain, in the files and devices of `parts`.
  std::set<std::string> beside(const std::vector<StorePart>& parts) const {
    std::set<std::string> uris;
    for (const StorePart& part : parts) {
      const auto there = places_.find({part.device, part.inode});
      if (there != places_.end()) uris.insert(there->second.begin(), there->second.end());
    }
    return uris;
  }

 private:
  static constexpr std::size_t kMuch = 64;

  void forget_places(const std::string& uri, const std::vector<StorePart>& parts) {
    for (const StorePart& part : parts) {
      auto& there = places_[{part.device, part.inode}];
      there.erase(uri);
      if (there.empty()) places_.erase({part.device, part.inode});
    }
  }
  void keep(const std::string& uri, const std::vector<StorePart>& parts) {
    forget_places(uri, parts_[uri]);
    for (const StorePart& part : parts) places_[{part.device, part.inode}].insert(uri);
    parts_[uri] = parts;
  }

  std::list<StoreUse> uses_;
  std::unordered_map<std::string, std::vector<StorePart>> parts_;    ///< by URI
  std::map<std::pair<dev_t, ino_t>, std::set<std::string>> places_;  ///< URIs, by parts_
  std::map<std::string, Identities> identities_;                     ///< by URI
  std::size_t much_ = kMuch;                                         ///< of parts_
};

}  // namespace blockmig
