// SPDX-License-Identifier: Apache-2.0
// StalledRig: sessions on a store that can be frozen and slowed.
#pragma once

#include "session_rig.h"

namespace blockmig::nbd {

/// A rig whose export sits on a store that can be frozen.
class StalledRig : public SessionRig {
 public:
  explicit StalledRig(std::uint64_t budget_bytes = std::uint64_t{1} << 30)
      : SessionRig(1, kDiskBytes, budget_bytes), store(loop, random, "store", kDiskBytes) {
    frozen = std::make_shared<FakeExport>("frozen", store);
    directory.exports_.push_back(frozen);
  }
  ~StalledRig() {
    store.unstall();
    close_all();
  }
  Connection& client(const PipeOptions& options = {.capacity_bytes = 1 << 20}) {
    Connection& each = connect(options);
    exchange(each, join({client_flags(3), option(kOptGo, info_data("frozen", {}))}));
    return each;
  }
  FaultDevice store;
  std::shared_ptr<FakeExport> frozen;
};

}  // namespace blockmig::nbd
