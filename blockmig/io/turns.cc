// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/turns.h"

#include <utility>

#include "blockmig/base/check.h"

namespace blockmig {

Turns::~Turns() { BM_CHECK(lines_.empty()); }

Task<void> Turns::take(std::string origin) {
  if (!std::exchange(taken_, true)) co_return;
  Event comes(loop_);
  lines_[std::move(origin)].push_back(&comes);
  co_await comes.wait();
}

void Turns::give() {
  BM_CHECK(taken_);
  if (lines_.empty()) {
    taken_ = false;
    return;
  }
  auto next = lines_.upper_bound(last_);
  if (next == lines_.end()) next = lines_.begin();
  last_ = next->first;
  Event* const first = next->second.front();
  next->second.pop_front();
  if (next->second.empty()) lines_.erase(next);
  first->set();
}

}  // namespace blockmig
