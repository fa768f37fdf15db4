// SPDX-License-Identifier: Apache-2.0
// IoThread: an IoLoop on a thread of its own.
//
// Lifecycle: start() returns when the loop exists; stop() (and the destructor) ends it: everything
// that lives on the loop must be gone by then, since nothing runs on it afterwards. What is posted
// later never runs. Thread rule: start() and stop() from the thread that owns the object; loop() is
// for post(), and for whatever lives on it.
#pragma once

#include <memory>
#include <semaphore>
#include <string>
#include <thread>

#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

class IoThread final {
 public:
  /// `name` is shown by the system's tools; at most 15 characters of it. Errors as make_io_loop().
  static Result<std::unique_ptr<IoThread>> start(const IoLoopOptions& options, std::string name);
  ~IoThread() { stop(); }
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  IoLoop& loop() { return *loop_; }
  void stop();

 private:
  IoThread() = default;

  IoLoop* loop_ = nullptr;  ///< lives in the thread's frame
  /// stop() has left the loop, which may then be destroyed.
  std::binary_semaphore released_{0};
  std::thread thread_;
};

}  // namespace blockmig
