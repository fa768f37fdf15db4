// SPDX-License-Identifier: Apache-2.0
// The loops that the tests of this folder run on: every setup of io_uring that the code knows, and
// the portable one. A setup that this machine refuses is skipped visibly.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "blockmig/io/cancel.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/portable_loop.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/uring_loop.h"

namespace blockmig {

enum class TestLoop { kUringDeferred, kUringCooperative, kUringPlain, kPortable };

inline Result<std::unique_ptr<IoLoop>> make_test_loop(TestLoop which,
                                                      const IoLoopOptions& options = {}) {
  switch (which) {
    case TestLoop::kUringDeferred:
      return make_uring_loop(options, UringSetup::kDeferred);
    case TestLoop::kUringCooperative:
      return make_uring_loop(options, UringSetup::kCooperative);
    case TestLoop::kUringPlain:
      return make_uring_loop(options, UringSetup::kPlain);
    case TestLoop::kPortable:
      return make_portable_loop(options);
  }
  return Error(ErrorCode::kInvalid);
}

/// Lets the loop see and do everything that is there to do now. Twice, since on a slow machine the
/// first sleep may be over before the loop has looked at I/O.
inline void settle_loop(IoLoop& loop) {
  for (int i = 0; i < 2; ++i) run_task(loop, sleep_for(loop, std::chrono::milliseconds(1)));
}

class LoopTest : public testing::TestWithParam<TestLoop> {
 protected:
  void SetUp() override {
    auto made = make_test_loop(GetParam());
    if (!made) GTEST_SKIP() << made.error().message();
    loop_ = std::move(*made);
  }
  IoLoop& loop() { return *loop_; }

  template <typename T>
  T run(Task<T> task) {
    return run_task(*loop_, std::move(task));
  }
  void settle() { settle_loop(*loop_); }

  std::unique_ptr<IoLoop> loop_;
};

inline std::string loop_name(const testing::TestParamInfo<TestLoop>& info) {
  switch (info.param) {
    case TestLoop::kUringDeferred:
      return "uring_deferred";
    case TestLoop::kUringCooperative:
      return "uring_cooperative";
    case TestLoop::kUringPlain:
      return "uring_plain";
    case TestLoop::kPortable:
      return "portable";
  }
  return "";
}

inline auto all_loops() {
  return testing::Values(TestLoop::kUringDeferred, TestLoop::kUringCooperative,
                         TestLoop::kUringPlain, TestLoop::kPortable);
}

}  // namespace blockmig
