// SPDX-License-Identifier: Apache-2.0
// StickyError: the first failure to make something durable. It fails all that comes after: the
// medium reports what it lost once, and a retry that succeeds proves nothing (I11).
//
// Whoever makes something durable takes the age when he begins and asks for the verdict when his
// own call has succeeded. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "blockmig/base/error.h"

namespace blockmig {

class StickyError final {
 public:
  /// The first one stays.
  void note(Error error) {
    if (!first_) first_ = std::move(error);
  }
  /// The medium was opened anew. What began before is not believed after.
  void forget() {
    first_.reset();
    ++age_;
  }
  /// Grows with forget().
  std::uint64_t age() const { return age_; }
  /// What may be answered to somebody who began at `age`, if he has met no error himself.
  Status verdict(std::uint64_t age) const {
    if (first_) return *first_;
    if (age == age_) return {};
    return Error(ErrorCode::kIo, "begun before the store was opened anew, which forgot a failure");
  }

 private:
  std::optional<Error> first_;
  std::uint64_t age_ = 0;
};

}  // namespace blockmig
