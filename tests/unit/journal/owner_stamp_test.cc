// SPDX-License-Identifier: Apache-2.0
// The owner's stamp: its bytes, its file, and who may use an image by it.
#include "blockmig/journal/owner_stamp.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"
#include "blockmig/journal/owner_file.h"
#include "blockmig/journal/owner_format.h"
#include "tests/unit/shared/temporary_folder.h"
#include "tests/unit/shared/unsyncable_folders.h"

namespace blockmig {
namespace {

using testing::HasSubstr;
namespace format = owner_format;

OwnerStamp example() {
  OwnerStamp stamp;
  stamp.state = StampState::kMoving;
  stamp.owner = make_owner_id();
  stamp.place = "host:/var/lib/blockmig";
  stamp.disk = "vm1";
  stamp.epoch = 7;
  stamp.token = make_stamp_token();
  stamp.other_uri = "file:///b/vm1.img";
  stamp.image = {1234, -5};
  stamp.left_size_bytes = 1 << 20;
  stamp.left_modified_ns = -77;
  return stamp;
}

TEST(OwnerStamp, SurvivesItsBytes) {
  const OwnerStamp stamp = example();
  const auto bytes = encode_stamp(stamp, 42);
  ASSERT_TRUE(bytes.ok());
  const auto slot = decode_stamp(*bytes);
  ASSERT_TRUE(slot.ok()) << slot.error().message();
  EXPECT_EQ(slot->stamp, stamp);
  EXPECT_EQ(slot->sequence, 42U);
}

TEST(OwnerStamp, SaysThatNothingRecordedIsToBeBelieved_I5) {
  OwnerStamp stamp = example();
  const std::size_t without = encode_stamp(stamp, 1)->size();
  stamp.unrecorded = true;
  auto bytes = *encode_stamp(stamp, 1);
  EXPECT_EQ(bytes.size(), without + format::kFlagBytes) << "older programs read what has no flags";
  const auto slot = decode_stamp(bytes);
  ASSERT_TRUE(slot.ok()) << slot.error().message();
  EXPECT_EQ(slot->stamp, stamp);
  // A flag that is not known may change what all of it means.
  bytes[format::kHeaderBytes] |= std::byte{2};
  const std::size_t end = bytes.size() - format::kCrcBytes;
  store_le<std::uint32_t>(bytes.data() + end, crc32c(ConstBytes(bytes).first(end)));
  EXPECT_EQ(decode_stamp(bytes).error().code(), ErrorCode::kProtocol);
}

TEST(OwnerStamp, SaysHowFarItsJournalWas_I3) {
  const std::size_t without = encode_stamp(example(), 1)->size();
  OwnerStamp stamp = example();
  stamp.incarnation = 3;
  auto bytes = *encode_stamp(stamp, 1);
  EXPECT_EQ(bytes.size(), without + format::kFlagBytes + format::kIncarnationBytes + 4);
  EXPECT_EQ(decode_stamp(bytes)->stamp, stamp);
  stamp.unpublished = stamp.unrecorded = true;
  stamp.rest_uri = "file:///a/base.img";
  bytes = *encode_stamp(stamp, 1);
  EXPECT_EQ(decode_stamp(bytes)->stamp, stamp);
  // Flags of a later version in an earlier one are damage, as are texts that it does not have.
  store_le<std::uint16_t>(bytes.data() + format::kVersionAt, format::kVersionWithFlags);
  const std::size_t end = bytes.size() - format::kCrcBytes;
  store_le<std::uint32_t>(bytes.data() + end, crc32c(ConstBytes(bytes).first(end)));
  EXPECT_EQ(decode_stamp(bytes).error().code(), ErrorCode::kProtocol);
}

TEST(OwnerStamp, EveryFlippedBitAndEveryCutIsDamage) {
  OwnerStamp stamp = example();
  stamp.incarnation = 3;
  const auto bytes = encode_stamp(stamp, 1);
  ASSERT_TRUE(bytes.ok());
  for (std::size_t bit = 0; bit < bytes->size() * 8; ++bit) {
    auto flipped = *bytes;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    const auto slot = decode_stamp(flipped);
    ASSERT_FALSE(slot.ok()) << bit;
    EXPECT_EQ(slot.error().code(), ErrorCode::kProtocol) << bit;
  }
  for (std::size_t length = 1; length < bytes->size(); ++length) {
    const auto slot = decode_stamp(ConstBytes(*bytes).first(length));
    ASSERT_FALSE(slot.ok()) << length;
    EXPECT_EQ(slot.error().code(), ErrorCode::kProtocol) << length;
  }
}

TEST(OwnerStamp, NewerVersionIsRefusedAsNewer) {
  auto bytes = *encode_stamp(example(), 1);
  store_le<std::uint16_t>(bytes.data() + format::kVersionAt, format::kVersionWithIncarnation + 1);
  const std::size_t end = bytes.size() - format::kCrcBytes;
  store_le<std::uint32_t>(bytes.data() + end, crc32c(ConstBytes(bytes).first(end)));
  EXPECT_EQ(decode_stamp(bytes).error().code(), ErrorCode::kPrecondition);
}

TEST(OwnerStamp, BlankIsNoStampAndATooLongUriIsSaid) {
  const std::vector<std::byte> blank(format::kSlotBytes);
  EXPECT_EQ(decode_stamp(blank).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(decode_stamp({}).error().code(), ErrorCode::kNotFound);
  OwnerStamp stamp = example();
  stamp.other_uri.assign(format::kSlotBytes - 100, 'x');
  EXPECT_EQ(encode_stamp(stamp, 1).error().code(), ErrorCode::kOverflow);
}

class OwnerFile : public testing::Test {
 protected:
  OwnerFile() { make_image(); }

  void make_image() const { std::ofstream(image_) << std::string(5000, 'x'); }
  Result<std::optional<OwnerStamp>> put(const OwnerStamp& stamp) const {
    return change_stamp(image_, [&stamp](const auto&) { return std::optional(stamp); });
  }
  OwnerStamp stamp(std::uint64_t epoch) const {
    OwnerStamp made = example();
    made.epoch = epoch;
    made.image = look_at_owned_image(image_)->identity;
    return made;
  }
  /// Overwrites `length` bytes of the file of the stamp.
  void spoil(std::size_t at, std::size_t length) const {
    const int fd = ::open(owner_file_of(image_).c_str(), O_WRONLY);
    const std::string rubbish(length, '\x5a');
    EXPECT_EQ(::pwrite(fd, rubbish.data(), length, static_cast<off_t>(at)),
              static_cast<ssize_t>(length));
    ::close(fd);
  }

  const TemporaryFolder folder_;
  const std::string image_ = folder_ / "vm1.img";
};

TEST_F(OwnerFile, IsReadAsItWasWrittenAndRemovedOnDemand) {
  EXPECT_FALSE(read_stamp(image_)->has_value());
  for (std::uint64_t epoch = 1; epoch < 6; ++epoch) {
    ASSERT_TRUE(put(stamp(epoch)).ok());
    const auto found = read_stamp(image_);
    ASSERT_TRUE(found.ok() && found->has_value());
    EXPECT_EQ((*found)->epoch, epoch);
  }
  EXPECT_EQ(std::filesystem::file_size(owner_file_of(image_)), format::kFileBytes);
  const auto removed =
      change_stamp(image_, [](const auto&) { return std::optional<OwnerStamp>(); });
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ((*removed)->epoch, 5U);
  EXPECT_FALSE(std::filesystem::exists(owner_file_of(image_)));
}

TEST_F(OwnerFile, TornChangeLeavesTheOneBefore_I7) {
  ASSERT_TRUE(put(stamp(1)).ok());  // slot 0
  ASSERT_TRUE(put(stamp(2)).ok());  // slot 1
  spoil(format::kSlotBytes + 40, 8);
  EXPECT_EQ((*read_stamp(image_))->epoch, 1U);
  // And the next change does not take the only one that is whole.
  ASSERT_TRUE(put(stamp(3)).ok());
  spoil(format::kSlotBytes + 40, 8);
  EXPECT_EQ((*read_stamp(image_))->epoch, 1U);
}

TEST_F(OwnerFile, RubbishIsRefusedAndNamed) {
  ASSERT_TRUE(put(stamp(1)).ok());
  spoil(0, 2 * format::kSlotBytes);
  const auto found = read_stamp(image_);
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code(), ErrorCode::kProtocol);
  EXPECT_THAT(found.error().message(), HasSubstr(owner_file_of(image_)));
  EXPECT_FALSE(put(stamp(2)).ok());
}

TEST_F(OwnerFile, FileThatACrashLeftBlankSaysNothing) {
  std::ofstream(owner_file_of(image_)) << "";
  EXPECT_FALSE(read_stamp(image_)->has_value());
  ASSERT_TRUE(put(stamp(4)).ok());
  EXPECT_EQ((*read_stamp(image_))->epoch, 4U);
}

TEST_F(OwnerFile, IsAboutThisFileOnlyNotAboutItsName) {
  ASSERT_TRUE(put(stamp(1)).ok());
  std::filesystem::rename(image_, folder_ / "kept.img");
  make_image();
  EXPECT_FALSE(read_stamp(image_)->has_value());
  ASSERT_TRUE(put(stamp(9)).ok());
  EXPECT_EQ((*read_stamp(image_))->epoch, 9U);
}

TEST_F(OwnerFile, ALinkLeadsToTheImagesOwn) {
  std::filesystem::create_symlink(image_, folder_ / "link");
  ASSERT_TRUE(put(stamp(3)).ok());
  EXPECT_EQ((*read_stamp(folder_ / "link"))->epoch, 3U);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "link" + format::kSuffix));
}

TEST_F(OwnerFile, RefusedChangeChangesNothingAndLeavesNoFile) {
  const auto refuse = [](const auto&) -> Result<std::optional<OwnerStamp>> {
    return Error(ErrorCode::kPrecondition, "no");
  };
  EXPECT_EQ(change_stamp(image_, refuse).error().code(), ErrorCode::kPrecondition);
  EXPECT_FALSE(std::filesystem::exists(owner_file_of(image_)));
  ASSERT_TRUE(put(stamp(3)).ok());
  EXPECT_FALSE(change_stamp(image_, refuse).ok());
  EXPECT_EQ((*read_stamp(image_))->epoch, 3U);
}

TEST_F(OwnerFile, WorksWhereFoldersCannotBeSynced) {
  const UnsyncableFolders unsyncable;
  const auto written = put(stamp(3));
  EXPECT_TRUE(written.ok()) << written.error().message();
  EXPECT_GT(unsyncable.refused, 0);
  const auto removed =
      change_stamp(image_, [](const auto&) { return std::optional<OwnerStamp>(); });
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  EXPECT_GT(unsyncable.refused, 1);
}

TEST_F(OwnerFile, WhatIsNoRegularFileHasNone) {
  EXPECT_EQ(read_stamp("/dev/null").error().code(), ErrorCode::kNotSupported);
  EXPECT_EQ(read_stamp(folder_ / "none").error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace blockmig
