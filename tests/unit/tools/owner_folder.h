// SPDX-License-Identifier: Apache-2.0
// What the tests of StoreOwners share: daemons' parts in it, and two images.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "blockmig/io/run_task.h"
#include "tests/unit/tools/scratch.h"
#include "tools/daemon/store_owners.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {

inline constexpr std::uint64_t kSize = 300001;

/// A daemon's part in it, in a state folder of its own.
struct Folder {
  explicit Folder(IoLoop& event_loop, const std::string& place, bool keeps_state = true)
      : loop(event_loop),
        journal(make_memory_journal(loop)),
        owners(loop, *journal, log, place, keeps_state) {
    EXPECT_TRUE(run_task(loop, owners.open()).ok());
  }
  Result<StoreOwners::Claim> claim(const StoreUri& store, std::uint64_t epoch, bool known = true,
                                   bool read_only = false) {
    ServeRequest request;
    request.disk = "vm1";
    request.read_only = read_only;
    SourceChoice choice;
    choice.uri = store.text;
    choice.epoch = epoch;
    choice.known = known;
    return run_task(loop, owners.claim(request, store, choice));
  }
  void release(const StoreUri& store) {
    const std::string disk = "vm1";
    run_task(loop, owners.release(disk, store.text));
  }

  IoLoop& loop;
  Log log{LogForm::kSilent};
  std::unique_ptr<Journal> journal;
  StoreOwners owners;
};

class StoreOwnersTest : public testing::Test {
 protected:
  /// Of a move of "vm1" from source_ to target_, to its second epoch.
  TargetPlan plan_of(Folder& folder) const {
    TargetPlan plan;
    plan.target = target_;
    plan.source = source_;
    plan.disk = "vm1";
    plan.owners = &folder.owners;
    plan.epoch = 2;
    return plan;
  }
  void SetUp() override {
    auto loop = make_io_loop({});
    ASSERT_TRUE(loop.ok());
    loop_ = *std::move(loop);
    source_ = *parse_store_uri(scratch_.image("source.img", kSize));
    target_ = *parse_store_uri(scratch_.image("target.img", kSize));
  }
  StoreOwners::Move move(std::uint64_t epoch) const { return {"vm1", source_, target_, epoch}; }
  static std::string state_of(const StoreUri& store) {
    const auto stamp = read_stamp(store.path);
    EXPECT_TRUE(stamp.ok());
    if (!stamp.ok() || !stamp->has_value()) return "none";
    return std::string(to_string((*stamp)->state)) + " " + std::to_string((*stamp)->epoch);
  }

  Scratch scratch_;
  std::unique_ptr<IoLoop> loop_;
  StoreUri source_;
  StoreUri target_;
};

}  // namespace blockmig
