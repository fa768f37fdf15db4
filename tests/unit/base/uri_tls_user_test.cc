// SPDX-License-Identifier: Apache-2.0
// The user of a pre-shared key in an NBD URI ("nbds://USER@HOST").
#include <gtest/gtest.h>

#include "blockmig/base/uri.h"

namespace blockmig {
namespace {

TEST(UriTlsUser, IsKeptWithTls) {
  for (const char* text :
       {"nbds://alice@host:99/e?tls-psk-file=/k", "nbds://alice@[::1]:99/e?tls-psk-file=/k",
        "nbds+unix://alice@/e?socket=/s&tls-psk-file=/k", "nbds+vsock://alice@2:99/e"}) {
    const auto uri = parse_store_uri(text);
    ASSERT_TRUE(uri.ok()) << uri.error().message();
    EXPECT_EQ(uri->tls_user, "alice");
    EXPECT_EQ(uri->export_name, "e");
    EXPECT_EQ(uri->text, text) << "libnbd gets it too";
    EXPECT_EQ(*parse_store_uri(uri->text), *uri);
  }
  EXPECT_EQ(parse_store_uri("nbds://alice@host:99/")->host, "host");
  EXPECT_EQ(parse_store_uri("nbds://a%40b@host/")->tls_user, "a@b");
}

TEST(UriTlsUser, IsRefusedElsewhere) {
  for (const char* text : {"nbd://alice@host/e", "nbd+unix://alice@/e?socket=/s", "nbds://@host/e",
                           "nbds+unix://@/e?socket=/s", "nbds://a%zz@host/",
                           "nbds+unix://alice@host/e?socket=/s", "nbds://alice@/e"}) {
    const auto uri = parse_store_uri(text);
    ASSERT_FALSE(uri.ok()) << text;
    EXPECT_EQ(uri.error().code(), ErrorCode::kInvalid);
  }
}

}  // namespace
}  // namespace blockmig
