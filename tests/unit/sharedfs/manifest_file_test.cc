// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/manifest_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/shared/temporary_folder.h"
#include "tests/unit/shared/unsyncable_folders.h"

namespace blockmig {
namespace {

struct ManifestFile : testing::Test {
  void SetUp() override { std::ofstream(image) << std::string(100'000, 'x'); }
  Manifest fresh() const {
    Manifest manifest(100'000);
    manifest.image = look_at_image(image)->identity;
    manifest.digests.set_digest(0, {1, 2});
    return manifest;
  }
  TemporaryFolder folder;
  std::string image = folder.path() + "/vm1.img";
};

TEST_F(ManifestFile, IsReplacedWholeAndLeavesNothingElse) {
  Manifest manifest = fresh();
  ASSERT_TRUE(save_manifest(image, manifest).ok());
  manifest.generation = 2;
  ASSERT_TRUE(save_manifest(image, manifest).ok());
  EXPECT_EQ(load_manifest(image)->generation, 2u);
  EXPECT_EQ(load_manifest_header(image)->generation, 2u);
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    static_cast<void>(entry);
    ++files;
  }
  EXPECT_EQ(files, 2u);
}

TEST_F(ManifestFile, AWriterThatDiedHalfWayHasChangedNothing) {
  ASSERT_TRUE(save_manifest(image, fresh()).ok());
  std::ofstream(manifest_path(image) + ".new") << "half a manif";
  EXPECT_EQ(load_manifest(image)->generation, 1u);
  Manifest next = fresh();
  next.generation = 5;
  ASSERT_TRUE(save_manifest(image, next).ok());
  EXPECT_EQ(load_manifest(image)->generation, 5u);
}

TEST_F(ManifestFile, WhatCannotBeReplacedStays) {
  ASSERT_TRUE(save_manifest(image, fresh()).ok());
  ASSERT_EQ(mkdir((manifest_path(image) + ".new").c_str(), 0700), 0);
  Manifest next = fresh();
  next.generation = 5;
  EXPECT_FALSE(save_manifest(image, next).ok());
  EXPECT_EQ(load_manifest(image)->generation, 1u);
}

TEST_F(ManifestFile, IsSavedWhereFoldersCannotBeSynced) {
  const UnsyncableFolders unsyncable;
  const Status saved = save_manifest(image, fresh());
  EXPECT_TRUE(saved.ok()) << saved.error().message();
  EXPECT_GT(unsyncable.refused, 0);
}

TEST_F(ManifestFile, MissingAndForeignFilesAreToldApart) {
  EXPECT_EQ(load_manifest(image).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(load_manifest_header(image).error().code(), ErrorCode::kNotFound);
  std::ofstream(manifest_path(image)) << "hello";
  EXPECT_EQ(load_manifest(image).error().code(), ErrorCode::kProtocol);
  EXPECT_EQ(load_manifest_header(image).error().code(), ErrorCode::kProtocol);
  EXPECT_NE(load_manifest(image).error().message().find(manifest_path(image)), std::string::npos);
}

TEST_F(ManifestFile, AReplacedOrModifiedImageIsNoticed) {
  const Manifest manifest = fresh();
  EXPECT_TRUE(check_identity(image, manifest, true).ok());
  timespec times[2] = {{0, UTIME_OMIT}, {1, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, image.c_str(), times, 0), 0);
  EXPECT_TRUE(check_identity(image, manifest, false).ok());
  EXPECT_EQ(check_identity(image, manifest, true).error().code(), ErrorCode::kMismatch);
  std::ofstream(image + ".2") << std::string(100'000, 'x');
  std::filesystem::rename(image + ".2", image);
  EXPECT_EQ(check_identity(image, manifest, false).error().code(), ErrorCode::kMismatch);
  std::filesystem::resize_file(image, 5);
  EXPECT_EQ(check_identity(image, manifest, false).error().code(), ErrorCode::kMismatch);
  std::filesystem::remove(image);
  EXPECT_EQ(check_identity(image, manifest, false).error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace blockmig
