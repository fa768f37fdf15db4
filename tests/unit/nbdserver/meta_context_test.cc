// SPDX-License-Identifier: Apache-2.0
// LIST_META_CONTEXT and SET_META_CONTEXT ("Metadata querying").
#include "handshake_rig.h"

namespace blockmig::nbd {
namespace {

TEST_F(HandshakeTest, MetaContextsNeedStructuredReplies) {
  talk(client_flags(3));
  const ByteVector data = meta_data("disk0", {"base:allocation"});
  EXPECT_EQ(only_reply(talk(option(kOptSetMeta, data)), kOptSetMeta), kErrInvalid);
  EXPECT_EQ(only_reply(talk(option(kOptListMeta, data)), kOptListMeta), kErrInvalid);
  talk(option(kOptStructured));
  EXPECT_EQ(talk(option(kOptSetMeta, data)),
            join({option_reply(kOptSetMeta, kRepMeta, Wire().u32(1).text("base:allocation")),
                  option_reply(kOptSetMeta, kRepAck)}));
}

class MetaTest : public HandshakeTest {
 protected:
  MetaTest() {
    disk_->add_bitmap("b0", 65536);
    disk_->add_bitmap("b1", 65536);
    talk(join({client_flags(3), option(kOptStructured)}));
  }
  std::vector<std::string> names(int number, const std::vector<std::string>& queries,
                                 std::string_view name = "disk0") {
    const ByteVector answer =
        talk(option(static_cast<std::uint32_t>(number), meta_data(name, queries)));
    std::vector<std::string> found;
    for (std::size_t at = 0; at < answer.size();) {
      const std::size_t size = read_be(answer, at + 16, 4);
      const auto type = read_be(answer, at + 12, 4);
      if (type == kRepMeta) {
        found.push_back(read_text(answer, at + 24, size - 4));
        ids_.push_back(static_cast<std::uint32_t>(read_be(answer, at + 20, 4)));
      }
      last_type_ = type;
      at += 20 + size;
    }
    return found;
  }
  using Names = std::vector<std::string>;
  std::vector<std::uint32_t> ids_;
  std::uint64_t last_type_ = 0;
};

TEST_F(MetaTest, ListWithoutQueriesShowsEverything) {
  EXPECT_EQ(names(kOptListMeta, {}),
            (Names{"base:allocation", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1",
                   "qemu:allocation-depth", "blockmig:hydration"}));
  EXPECT_EQ(last_type_, kRepAck);
  for (const auto id : ids_) EXPECT_EQ(id, 0u);
}

TEST_F(MetaTest, ListTakesWildcards) {
  EXPECT_EQ(names(kOptListMeta, {"base:"}), (Names{"base:allocation"}));
  EXPECT_EQ(names(kOptListMeta, {"qemu:"}),
            (Names{"qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1", "qemu:allocation-depth"}));
  EXPECT_EQ(names(kOptListMeta, {"blockmig:"}), (Names{"blockmig:hydration"}));
  EXPECT_EQ(names(kOptListMeta, {"qemu:dirty-bitmap:"}),
            (Names{"qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"}));
  EXPECT_EQ(names(kOptListMeta, {"qemu:dirty-bitmap:b1"}), (Names{"qemu:dirty-bitmap:b1"}));
}

TEST_F(MetaTest, IdentitiesAreShownToWhoAsksForThemAlone) {
  disk_->identities_ = {"11", "22"};
  const std::string first = "blockmig:identity:11";
  EXPECT_EQ(names(kOptListMeta, {"blockmig:identity:"}), (Names{first, "blockmig:identity:22"}));
  for (const auto id : ids_) EXPECT_EQ(id, 0u);
  EXPECT_EQ(names(kOptListMeta, {"blockmig:identity:22", "blockmig:identity:33"}),
            (Names{"blockmig:identity:22"}));
  EXPECT_EQ(names(kOptListMeta, {"base:", "blockmig:identity:"}).front(), "base:allocation");
  for (const Names& others : {Names{}, Names{"base:"}, Names{"qemu:"}, Names{"blockmig:"},
                              Names{"blockmig:ident"}, Names{"identity:"}}) {
    for (const std::string& name : names(kOptListMeta, others)) EXPECT_NE(name, first);
  }
  EXPECT_EQ(names(kOptSetMeta, {first, "blockmig:identity:"}), Names{});
  EXPECT_EQ(last_type_, kRepAck);
  EXPECT_EQ(names(kOptListMeta, {"blockmig:identity:"}, "nope"), Names{});
  EXPECT_EQ(last_type_, kErrUnknown);
}

TEST_F(MetaTest, SetTakesNoWildcards) {
  EXPECT_EQ(names(kOptSetMeta, {"base:", "qemu:", "qemu:dirty-bitmap:"}), Names{});
  EXPECT_EQ(last_type_, kRepAck);
  EXPECT_EQ(names(kOptSetMeta, {}), Names{});
  EXPECT_EQ(last_type_, kRepAck);
}

TEST_F(MetaTest, UnknownNamesAndNamespacesAreLeftOut) {
  EXPECT_EQ(names(kOptSetMeta, {"x-foo:bar", "base:other", "nocolon", "", "qemu:dirty-bitmap:none",
                                "base:allocation"}),
            (Names{"base:allocation"}));
  EXPECT_EQ(names(kOptListMeta, {"x-foo:"}), Names{});
  EXPECT_EQ(last_type_, kRepAck);
}

TEST_F(MetaTest, DuplicatesGiveOneContextAndIdsAreUnique) {
  EXPECT_EQ(names(kOptSetMeta, {"qemu:dirty-bitmap:b1", "base:allocation", "base:allocation",
                                "qemu:dirty-bitmap:b1"}),
            (Names{"base:allocation", "qemu:dirty-bitmap:b1"}));
  ASSERT_EQ(ids_.size(), 2u);
  EXPECT_NE(ids_[0], ids_[1]);
}

TEST_F(MetaTest, SetOfAnUnknownExportIsUnknown) {
  names(kOptSetMeta, {"base:allocation"}, "nope");
  EXPECT_EQ(last_type_, kErrUnknown);
}

TEST_F(MetaTest, SelectionHoldsForTheExportThatIsEntered) {
  names(kOptSetMeta, {"base:allocation", "qemu:dirty-bitmap:b0"});
  talk(option(kOptGo, info_data("disk0", {})));
  const Negotiated result = handshake_->take_result();
  ASSERT_EQ(result.contexts.size(), 2u);
  EXPECT_TRUE(result.rules.has_contexts);
}

TEST_F(MetaTest, SelectionForAnotherExportIsNone) {
  names(kOptSetMeta, {"base:allocation"}, "disk1");
  talk(option(kOptGo, info_data("disk0", {})));
  EXPECT_TRUE(handshake_->take_result().contexts.empty());
}

TEST_F(MetaTest, AFailedEmptyOrOversizedSetClearsTheSelection) {
  const std::vector<ByteVector> spoilers = {meta_data("disk0", {}),
                                            meta_data("nope", {"base:allocation"}), Wire().u16(1),
                                            pattern(9000, 1), meta_data("disk0", {"x:y"})};
  for (const ByteVector& spoiler : spoilers) {
    restart();
    talk(join({client_flags(3), option(kOptStructured)}));
    names(kOptSetMeta, {"base:allocation"});
    EXPECT_FALSE(talk(option(kOptSetMeta, spoiler)).empty());
    talk(option(kOptGo, info_data("disk0", {})));
    EXPECT_TRUE(handshake_->take_result().contexts.empty());
  }
}

TEST_F(MetaTest, ListDoesNotChangeTheSelection) {
  names(kOptSetMeta, {"base:allocation"});
  names(kOptListMeta, {"qemu:"});
  talk(option(kOptGo, info_data("disk0", {})));
  EXPECT_EQ(handshake_->take_result().contexts.size(), 1u);
}

TEST_F(MetaTest, StatusPayloadIsOfferedOnlyWithExtendedHeadersAndContexts) {
  names(kOptSetMeta, {"base:allocation"});
  talk(option(kOptExtended));
  EXPECT_EQ(
      talk(option(kOptInfo, info_data("disk0", {}))),
      join({info_export(kOptInfo, kStructuredFlags | 0x1000), option_reply(kOptInfo, kRepAck)}));
  names(kOptSetMeta, {});
  EXPECT_EQ(talk(option(kOptInfo, info_data("disk0", {}))),
            join({info_export(kOptInfo, kStructuredFlags), option_reply(kOptInfo, kRepAck)}));
}

TEST_F(MetaTest, MalformedQueriesAreInvalidAndStayInStep) {
  const std::vector<Malformed> cases = {
      {"Empty", {}},
      {"NameLongerThanTheData", Wire().u32(50).text("disk0").u32(0)},
      {"NoCount", Wire().text32("disk0")},
      {"HostileCount", Wire().text32("disk0").u32(0xffffffff)},
      {"CountTooLarge", Wire().text32("disk0").u32(2).text32("base:allocation")},
      {"QueryLongerThanTheData", Wire().text32("disk0").u32(1).u32(100).text("base:")},
      {"QueryLengthWraps", Wire().text32("disk0").u32(1).u32(0xfffffffc).text("base:")},
      {"QueryTooLong", Wire().text32("disk0").u32(1).text32(std::string(4097, 'q'))},
      {"TrailingBytes", Wire().text32("disk0").u32(1).text32("base:allocation").fill(3, 0)},
  };
  for (const Malformed& each : cases) {
    for (const std::uint32_t number : {kOptListMeta, kOptSetMeta}) {
      const ByteVector answer = talk(option(static_cast<std::uint32_t>(number), each.data));
      EXPECT_EQ(only_reply(answer, static_cast<std::uint32_t>(number)), kErrInvalid) << each.name;
      EXPECT_EQ(names(kOptSetMeta, {"base:allocation"}), (Names{"base:allocation"})) << each.name;
    }
  }
}

}  // namespace
}  // namespace blockmig::nbd
