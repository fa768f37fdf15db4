// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/metrics_page.h"

#include <utility>

namespace blockmig {

MetricsPage::Answer MetricsPage::request() {
  std::shared_ptr<Pending> pending;
  {
    const std::lock_guard lock(mutex_);
    pending = pending_.lock();
    if (pending != nullptr) return pending->answer;
    pending = std::make_shared<Pending>();
    pending_ = pending;
  }
  Answer answer = pending->answer;
  ask_([pending](MetricsSnapshot snapshot) { pending->promise.set_value(std::move(snapshot)); });
  return answer;
}

std::string MetricsPage::text() {
  const Answer answer = request();
  std::string page;
  if (answer.wait_for(kPatience) == std::future_status::ready) {
    try {
      page = metrics_text(answer.get());
    } catch (const std::future_error&) {
      page.clear();  // the loop ended before it came to this
    }
  }
  const bool stale = page.empty();
  {
    const std::lock_guard lock(mutex_);
    if (stale) {
      page = last_;
    } else {
      last_ = page;
    }
  }
  return page + process_metrics_text(stale);
}

}  // namespace blockmig
