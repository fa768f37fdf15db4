// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/serving_threads.h"

#include <sched.h>

#include <algorithm>
#include <string>
#include <utility>

#include "tools/daemon/daemon.h"

namespace blockmig {

unsigned automatic_threads() {
  cpu_set_t processors;
  CPU_ZERO(&processors);
  if (::sched_getaffinity(0, sizeof processors, &processors) != 0) return 1;
  const auto count = static_cast<unsigned>(CPU_COUNT(&processors));
  return std::clamp(count, 1u, kMaxAutomaticThreads);
}

Result<ServingThreads> ServingThreads::start(unsigned threads, const IoLoopOptions& options) {
  ServingThreads started;
  const unsigned wanted = threads == 0 ? automatic_threads() : threads;
  for (unsigned i = 1; i < wanted; ++i) {
    Result<std::unique_ptr<IoThread>> thread =
        IoThread::start(options, "blockmig-io-" + std::to_string(i));
    if (!thread) return thread.error();
    started.threads_.push_back(*std::move(thread));
  }
  return started;
}

std::vector<IoLoop*> ServingThreads::loops() const {
  std::vector<IoLoop*> loops;
  for (const auto& thread : threads_) loops.push_back(&thread->loop());
  return loops;
}

}  // namespace blockmig
