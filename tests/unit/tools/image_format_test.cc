// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/image_format.h"

#include <gtest/gtest.h>

#include <string>

namespace blockmig {
namespace {

std::string_view format_of(const std::string& text) {
  return foreign_format(std::as_bytes(std::span(text)));
}

TEST(ImageFormat, KnowsWhatIsNotRaw) {
  EXPECT_EQ(format_of(std::string("QFI\xfb\0\0\0\3", 8)), "qcow2");
  EXPECT_EQ(format_of("KDMV\1..."), "VMDK");
  EXPECT_EQ(format_of("vhdxfile"), "VHDX");
  EXPECT_EQ(format_of("conectix"), "VHD");
  EXPECT_EQ(format_of(std::string("QED\0....", 8)), "QED");
}

TEST(ImageFormat, TakesNothingElseForOne) {
  for (const std::string& raw : {std::string(8, '\0'), std::string("\xeb\x63\x90mkfs."),
                                 std::string("QFI 2024"), std::string("vhdxfil"), std::string()}) {
    EXPECT_EQ(format_of(raw), "") << raw;
  }
}

}  // namespace
}  // namespace blockmig
