// SPDX-License-Identifier: Apache-2.0
#include "sim_run.h"

#include <chrono>
#include <cstdio>
#include <utility>

namespace blockmig::sim {
namespace {

/// Ten times what the longest of thousands of seeds took.
constexpr std::uint64_t kMostSteps = 10'000'000;

}  // namespace

SimRun::SimRun(const RunOptions& options, DrawSize draw_size)
    : options_(options),
      random_(options.seed),
      loop_(random_),
      size_bytes_(draw_size(random_)),
      journal_(loop_, random_, journal_records_) {
  if (options.seed % 3 == 1) loop_.look_late(kLateLook);
}

void SimRun::note(const std::string& text) const {
  if (!options_.verbose) return;
  const auto now = std::chrono::duration<double, std::milli>(loop_.now().time_since_epoch());
  std::printf("%12.3f ms  %s\n", now.count(), text.c_str());
}

void SimRun::complain(const std::string& text) {
  note("VIOLATION " + text);
  if (result_.violation.empty()) result_.violation = text;
}

bool SimRun::step() {
  if (!loop_.step()) return false;
  ++result_.events;
  if (!options_.sweep) return true;
  if (options_.crash_at == 0 && can_die()) result_.crash_points.push_back(result_.events);
  if (options_.crash_at == result_.events && can_die()) {
    note("event " + std::to_string(result_.events));
    result_.died = true;
    die_now(options_.power_loss);
  }
  return true;
}

RunResult SimRun::run() {
  auto story_task = story();
  scope_.spawn(std::move(story_task));
  const auto goes_on = [this] {
    return !finished_ && result_.violation.empty() && result_.events < kMostSteps;
  };
  while (goes_on() && step()) {
  }
  if (!finished_ && result_.violation.empty()) {
    complain(result_.events < kMostSteps
                 ? "deadlock: nothing is left to run"
                 : "livelock: it runs for ever, and the story does not end");
  }
  result_.trace_hash = loop_.trace_hash();
  return result_;
}

}  // namespace blockmig::sim
