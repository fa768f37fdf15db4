// SPDX-License-Identifier: Apache-2.0
// CommandQueue: where commands wait whose answer may take long, apart from what is only asked.
//
// Each has a thread of its own while there are few enough; the others wait for one. Who has waited
// longer than its client does is told so instead of beginning: nobody would hear of what it did.
// Lifecycle: add(); stop(), or the destructor. Thread rule: any thread; stop() once add() has
// ended.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace blockmig {

class CommandQueue final {
 public:
  struct Limits {
    std::size_t threads = 128;
    std::size_t waiting = 1024;
    /// With what a command itself may take, less than its client waits (ControlClient).
    std::chrono::steady_clock::duration patience = std::chrono::seconds(8);
  };
  enum class Turn : std::uint8_t {
    kBegin,
    kTooLate,  ///< or there are too many
    kStopping,
  };
  /// Called once, on any thread; may block with kBegin only.
  using Job = std::function<void(Turn)>;

  explicit CommandQueue(const Limits& limits) : limits_(limits) {}
  ~CommandQueue() { stop(); }
  CommandQueue(const CommandQueue&) = delete;
  CommandQueue& operator=(const CommandQueue&) = delete;

  void add(Job job);
  /// Waits for those that have begun; the others have their turn with kStopping.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    Job job;
    Clock::time_point since;
  };

  void work();
  /// With the lock held. False: there is no thread at all.
  bool have_thread();

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace blockmig
