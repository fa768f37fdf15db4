// SPDX-License-Identifier: Apache-2.0
// unit_planted BUG FILTER: unit tests against layers that the simulator's stores and journal stand
// in for. Without the bug those tests pass, with it one must fail: 0 if so. What depends on the
// order in which a kernel answers gets several tries.
#include <gtest/gtest.h>

#include <cstdio>
#include <string_view>

#include "blockmig/base/planted.h"
#include "tests/sim/planted_bugs.h"

namespace {

constexpr int kTries = 20;

bool all_pass() { return RUN_ALL_TESTS() == 0; }

}  // namespace

int main(int count, char** words) {
  testing::InitGoogleTest(&count, words);
  if (count != 3) {
    std::fprintf(stderr, "usage: unit_planted BUG FILTER\n");
    return 2;
  }
  auto wanted = blockmig::PlantedBug::kNone;
  for (const auto& named : blockmig::sim::kBugs) {
    if (std::string_view(words[1]) == named.name) wanted = named.bug;
  }
  testing::GTEST_FLAG(filter) = words[2];
  if (wanted == blockmig::PlantedBug::kNone || !all_pass() ||
      testing::UnitTest::GetInstance()->successful_test_count() == 0) {
    std::printf("no such bug, or no such test, or it fails without the bug\n");
    return 1;
  }
  blockmig::planted_bug = wanted;
  for (int tries = 1; tries <= kTries; ++tries) {
    if (all_pass()) continue;
    std::printf("planted bug %s found at try %d\n", words[1], tries);
    return 0;
  }
  std::printf("planted bug %s was NOT found\n", words[1]);
  return 1;
}
