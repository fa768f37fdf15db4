// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/nbd_tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace blockmig {
namespace {

bool accepted(const std::string& text, std::string_view version = "1.14.2") {
  const auto uri = parse_store_uri(text);
  EXPECT_TRUE(uri.ok()) << text;
  return check_nbd_tls(*uri, version).ok();
}

TEST(NbdTls, CertificatesThatLibnbdWouldNotVerifyAreRefused_CVE_2024_7383) {
  EXPECT_FALSE(accepted("nbds+unix:///e?socket=/s"));
  EXPECT_FALSE(accepted("nbds+unix:///e?socket=/s&tls-certificates=/pki"));
  EXPECT_FALSE(accepted("nbds+vsock://2/e"));
  EXPECT_FALSE(accepted("nbds+unix:///e?socket=/s&tls-verify-peer=true"));
  const auto uri = parse_store_uri("nbds+unix:///e?socket=/s");
  const Status refused = check_nbd_tls(*uri, "1.14.2");
  EXPECT_EQ(refused.error().code(), ErrorCode::kNotSupported);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("tls-psk-file=FILE"));
}

TEST(NbdTls, WhatIsVerifiedOrWasAskedForIsAccepted) {
  EXPECT_TRUE(accepted("nbd+unix:///e?socket=/s"));
  EXPECT_TRUE(accepted("nbd://host/e"));
  EXPECT_TRUE(accepted("nbds://host/e?tls-certificates=/pki"));
  EXPECT_TRUE(accepted("nbds+unix:///e?socket=/s&tls-psk-file=/keys.psk"));
  EXPECT_TRUE(accepted("nbds+unix:///e?socket=/s&tls-verify-peer=false"));
}

TEST(NbdTls, NewerLibrariesVerifyEverywhere) {
  const std::string uri = "nbds+unix:///e?socket=/s";
  for (const char* version : {"1.20.3", "1.20.10", "1.22.0", "2.0.0"}) {
    EXPECT_TRUE(accepted(uri, version)) << version;
  }
  for (const char* version : {"1.20.2", "1.9.9", "0.1", "", "x"}) {
    EXPECT_FALSE(accepted(uri, version)) << version;
  }
}

}  // namespace
}  // namespace blockmig
