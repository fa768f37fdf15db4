// SPDX-License-Identifier: Apache-2.0
// MetricsPage: answers a scrape in time, whatever the loop is busy with.
//
// It asks the loop for a snapshot and waits kPatience. If the loop does not come to it, the page is
// the last one that there was, and says so (blockmig_metrics_stale); scrapes that follow wait for
// the same answer instead of asking again, so nothing piles up. Lifecycle: `ask` may be called, and
// what it was given be used, as long as the page lives or later. Thread rule: any thread.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>

#include "tools/daemon/metrics.h"

namespace blockmig {

class MetricsPage final {
 public:
  /// Well below the 100 ms that a scrape may take.
  static constexpr std::chrono::milliseconds kPatience{60};

  using Deliver = std::function<void(MetricsSnapshot)>;
  /// Arranges that `deliver` is called once, soon, on whatever thread; or is destroyed uncalled.
  using Ask = std::function<void(Deliver deliver)>;

  explicit MetricsPage(Ask ask) : ask_(std::move(ask)) {}

  std::string text();

 private:
  using Answer = std::shared_future<MetricsSnapshot>;
  struct Pending {
    std::promise<MetricsSnapshot> promise;
    Answer answer = promise.get_future().share();
  };

  Answer request();

  Ask ask_;
  std::mutex mutex_;
  std::weak_ptr<Pending> pending_;  ///< held by whoever is to deliver
  std::string last_;
};

}  // namespace blockmig
