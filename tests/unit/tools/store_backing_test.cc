// SPDX-License-Identifier: Apache-2.0
// What block devices are kept in, from a description as the kernel gives it.
#include "tools/daemon/store_backing.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/unit/tools/scratch.h"
#include "tools/daemon/store_use.h"

namespace blockmig {
namespace {

namespace fs = std::filesystem;

class StoreBacking : public testing::Test {
 protected:
  /// A device under `folder` of the description, named as "8:1".
  void device(const std::string& number, const std::string& folder) {
    write(folder + "/dev", number);
    fs::create_symlink(scratch_ / folder, scratch_ / number);
  }
  void partition(const std::string& number, const std::string& folder, std::uint64_t start,
                 std::uint64_t sectors) {
    device(number, folder);
    write(folder + "/partition", "1");
    write(folder + "/start", std::to_string(start));
    write(folder + "/size", std::to_string(sectors));
  }
  /// `upper` is made of `lower`.
  void stack(const std::string& upper, const std::string& lower) {
    fs::create_directories(scratch_ / (upper + "/slaves"));
    const std::string name = fs::path(lower).filename();
    fs::create_symlink(scratch_ / lower, scratch_ / (upper + "/slaves/" + name));
  }
  void loop(const std::string& number, const std::string& folder, const std::string& file,
            std::uint64_t offset = 0, std::uint64_t limit = 0) {
    device(number, folder);
    write(folder + "/loop/backing_file", file);
    write(folder + "/loop/offset", std::to_string(offset));
    write(folder + "/loop/sizelimit", std::to_string(limit));
  }
  std::vector<StorePart> parts(unsigned major_number, unsigned minor_number) {
    return parts_of(makedev(major_number, minor_number), scratch_.path());
  }
  void write(const std::string& file, const std::string& line) {
    fs::create_directories(fs::path(scratch_ / file).parent_path());
    std::ofstream(scratch_ / file) << line << "\n";
  }

  Scratch scratch_;
};

TEST_F(StoreBacking, PartitionsOverlapTheirDiskAndNotEachOther) {
  device("8:0", "sda");
  partition("8:1", "sda/sda1", 2048, 4096);
  partition("8:2", "sda/sda2", 6144, 4096);
  partition("8:3", "sda/sda3", 6144, 1);  // as extended ones contain others
  device("8:16", "sdb");
  EXPECT_TRUE(overlap(parts(8, 0), parts(8, 1)));
  EXPECT_TRUE(overlap(parts(8, 2), parts(8, 0)));
  EXPECT_TRUE(overlap(parts(8, 2), parts(8, 3)));
  EXPECT_FALSE(overlap(parts(8, 1), parts(8, 2)));
  EXPECT_FALSE(overlap(parts(8, 16), parts(8, 1)));
  EXPECT_FALSE(overlap(parts(8, 16), parts(8, 0)));
}

TEST_F(StoreBacking, LoopDevicesAreTheirFile) {
  const std::string file = scratch_.image("a.img", 300001);
  const std::string other = scratch_.image("b.img", 300001);
  loop("7:0", "loop0", file);
  loop("7:1", "loop1", file);
  loop("7:2", "loop2", other);
  loop("7:3", "loop3", file, 0, 65536);
  loop("7:4", "loop4", file, 65536);
  partition("259:0", "loop4/loop4p1", 2048, 2048);
  device("7:9", "loop9");  // bound to nothing
  EXPECT_TRUE(overlap(parts(7, 0), parts_of(file)));
  EXPECT_TRUE(overlap(parts_of(file), parts(7, 1)));
  EXPECT_TRUE(overlap(parts(7, 0), parts(7, 1)));
  EXPECT_TRUE(overlap(parts(7, 4), parts_of(file)));
  EXPECT_TRUE(overlap(parts(259, 0), parts_of(file)));
  EXPECT_FALSE(overlap(parts(7, 3), parts(7, 4)));
  EXPECT_FALSE(overlap(parts(7, 3), parts(259, 0)));
  EXPECT_FALSE(overlap(parts(7, 0), parts(7, 2)));
  EXPECT_FALSE(overlap(parts(7, 9), parts_of(file)));
}

TEST_F(StoreBacking, StackedDevicesOverlapWhatTheyAreOn) {
  const std::string file = scratch_.image("a.img", 300001);
  loop("7:0", "loop0", file);
  device("8:0", "sda");
  partition("8:1", "sda/sda1", 2048, 4096);
  partition("8:2", "sda/sda2", 6144, 4096);
  for (const std::string name : {"dm-0", "dm-1"}) {
    device("253:" + name.substr(3), name);
    stack(name, "sda/sda1");
    stack(name, "loop0");
  }
  device("9:0", "md0");
  stack("md0", "dm-0");
  EXPECT_TRUE(overlap(parts(253, 0), parts(8, 1)));
  EXPECT_TRUE(overlap(parts(8, 0), parts(253, 0)));
  EXPECT_TRUE(overlap(parts(9, 0), parts_of(file)));
  EXPECT_TRUE(overlap(parts(9, 0), parts(253, 0)));
  EXPECT_FALSE(overlap(parts(253, 0), parts(8, 2)));
  EXPECT_FALSE(overlap(parts(253, 0), parts(253, 1))) << "two volumes of one group";
}

TEST_F(StoreBacking, DevicesInACircleEnd) {
  device("253:0", "dm-0");
  device("253:1", "dm-1");
  stack("dm-0", "dm-1");
  stack("dm-1", "dm-0");
  EXPECT_TRUE(overlap(parts(253, 0), parts(253, 1)));
}

TEST_F(StoreBacking, FilesAreTheSameThroughLinks) {
  const std::string file = scratch_.image("a.img", 300001);
  fs::create_hard_link(file, scratch_ / "hard");
  fs::create_symlink(file, scratch_ / "link");
  const auto uri = [](const std::string& path) { return *parse_store_uri("file://" + path); };
  EXPECT_TRUE(stores_overlap(uri(file), uri(scratch_ / "hard")));
  EXPECT_TRUE(stores_overlap(uri(scratch_ / "link"), uri(scratch_ / "hard")));
  EXPECT_FALSE(stores_overlap(uri(file), uri(scratch_.image("b.img", 1))));
  EXPECT_FALSE(stores_overlap(uri(scratch_ / "none"), uri(file)));
  EXPECT_TRUE(stores_overlap(uri(scratch_ / "none"), uri(scratch_ / "none")));
  EXPECT_TRUE(parts_of(scratch_ / "none").empty());
}

}  // namespace
}  // namespace blockmig
