// SPDX-License-Identifier: Apache-2.0
// Block status of a whole session, byte for byte: one chunk for each context (specification,
// NBD_CMD_BLOCK_STATUS).
#include <gtest/gtest.h>

#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using Style = SessionRig::Style;
constexpr std::uint64_t kSize = SessionRig::kDiskBytes;

TEST(SessionBlockStatus, AnswersOneChunkPerContext) {
  SessionRig rig;
  rig.disk->add_bitmap("b0", 65536).mark(65536, 1);
  rig.poke(131072, pattern(65536, 1));
  auto& client =
      rig.transmitting(Style::kStructured, {}, {"base:allocation", "qemu:dirty-bitmap:b0"});
  EXPECT_EQ(rig.exchange(client, request(0, kBlockStatus, 1, 0, 262144)),
            join({chunk(0, kStatus, 1,
                        Wire().u32(1).u32(131072).u32(3).u32(65536).u32(0).u32(65536).u32(3)),
                  chunk(1, kStatus, 1,
                        Wire().u32(2).u32(65536).u32(0).u32(65536).u32(1).u32(131072).u32(0))}));
  EXPECT_EQ(rig.exchange(client, request(kReqOne, kBlockStatus, 2, 65536, 100000)),
            join({chunk(0, kStatus, 2, Wire().u32(1).u32(65536).u32(3)),
                  chunk(1, kStatus, 2, Wire().u32(2).u32(65536).u32(1))}));
}

TEST(SessionBlockStatus, OfDepthAndHydration) {
  SessionRig rig;
  rig.poke(131072, pattern(65536, 1));
  rig.disk->absent_ = {{{0, 65536}, true}, {{65536, kSize - 65536}, false}};
  auto& client =
      rig.transmitting(Style::kStructured, {}, {"qemu:allocation-depth", "blockmig:hydration"});
  EXPECT_EQ(rig.exchange(client, request(0, kBlockStatus, 1, 0, 262144)),
            join({chunk(0, kStatus, 1,
                        Wire().u32(2).u32(131072).u32(0).u32(65536).u32(1).u32(65536).u32(0)),
                  chunk(1, kStatus, 1, Wire().u32(3).u32(65536).u32(1).u32(196608).u32(0))}));
}

TEST(SessionBlockStatus, AtTheOddTail) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured, {}, {"base:allocation"});
  EXPECT_EQ(rig.exchange(client, request(0, kBlockStatus, 1, kSize - 1, 1)),
            chunk(1, kStatus, 1, Wire().u32(1).u32(1).u32(3)));
}

TEST(SessionBlockStatus, Of4GiBMinusOneOnALargeDisk) {
  SessionRig rig(1, 10ull << 30);
  rig.spy.mutable_info().min_io_bytes = 512;
  auto& client = rig.transmitting(Style::kStructured, {}, {"base:allocation"});
  const ByteVector reply = rig.exchange(client, request(0, kBlockStatus, 1, 512, 0xffffffff));
  EXPECT_EQ(reply, chunk(1, kStatus, 1, Wire().u32(1).u32(0xfffffe00).u32(3)));
}

TEST(SessionBlockStatus, WithoutContextsIsRefused) {
  SessionRig rig;
  auto& structured = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(structured, request(0, kBlockStatus, 1, 0, 512)),
            chunk(1, kError, 1, error_payload(kEINVAL, "block-status was not negotiated")));
  auto& simple = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(simple, request(0, kBlockStatus, 1, 0, 512)), simple_reply(kEINVAL, 1));
}

TEST(SessionBlockStatus, ABitmapThatIsGoneIsAnErrorNotACleanAnswer_I11) {
  SessionRig rig;
  rig.disk->add_bitmap("b0", 65536).mark_all();
  auto& client =
      rig.transmitting(Style::kStructured, {}, {"base:allocation", "qemu:dirty-bitmap:b0"});
  rig.disk->drop_bitmap("b0");
  EXPECT_EQ(rig.exchange(client, request(0, kBlockStatus, 1, 0, 512)),
            chunk(1, kError, 1, error_payload(kEIO, "the bitmap b0 is gone")));
}

TEST(SessionBlockStatus, ExtentsThatBreakTheContractAreAnErrorNotALie) {
  SessionRig rig;
  rig.spy.fake_extents = {{100, 100, true, true}};
  auto& client = rig.transmitting(Style::kStructured, {}, {"base:allocation"});
  EXPECT_EQ(read_be(rig.exchange(client, request(0, kBlockStatus, 1, 0, 512)), 20, 4), kEIO);
}

TEST(SessionBlockStatus, ManyExtentsFitTheReply) {
  SessionRig rig(1, 1ull << 30);
  for (std::uint64_t i = 0; i < 5000; ++i) {
    rig.spy.fake_extents.push_back({i * 1000, 1000, i % 2 == 0, i % 2 == 0});
  }
  auto& client = rig.transmitting(Style::kStructured, {}, {"base:allocation"});
  const ByteVector reply = rig.exchange(client, request(0, kBlockStatus, 1, 0, 1u << 30));
  EXPECT_EQ(reply.size(), 20u + 4 + 8 * 5000);
  EXPECT_EQ(read_be(reply, 16, 4), reply.size() - 20);
}

}  // namespace
}  // namespace blockmig::nbd
