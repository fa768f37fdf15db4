// SPDX-License-Identifier: Apache-2.0
// Where the daemon says that clients reach a disk.
#include <gtest/gtest.h>

#include "blockmig/base/uri.h"
#include "tools/control/messages.h"

namespace blockmig {
namespace {

TEST(ExportUri, NamesTheSocketTheHostOrTheContextId) {
  EXPECT_EQ(export_uri("unix:/run/a b.sock", "vm1"), "nbd+unix:///vm1?socket=/run/a%20b.sock");
  EXPECT_EQ(export_uri("tcp:192.0.2.1:10809", "vm@1"), "nbd://192.0.2.1:10809/vm%401");
  EXPECT_EQ(export_uri("tcp:[2001:db8::1]:7", "vm1"), "nbd://[2001:db8::1]:7/vm1");
  EXPECT_EQ(export_uri("vsock:3:10809", "vm1"), "nbd+vsock://3:10809/vm1");
}

TEST(ExportUri, WildcardsBecomeThisMachine) {
  for (const char* any : {"tcp:0.0.0.0:9", "tcp:[::]:9", "tcp:*:9", "tcp::9"}) {
    EXPECT_EQ(export_uri(any, "vm1"), "nbd://localhost:9/vm1") << any;
  }
  EXPECT_EQ(export_uri("vsock::9", "vm1"), "nbd+vsock://1:9/vm1");
}

TEST(ExportUri, SaysNbdsWhereTlsIsRequired_I14) {
  EXPECT_EQ(export_uri("unix:/s", "vm1", true), "nbds+unix:///vm1?socket=/s");
  EXPECT_EQ(export_uri("tcp:[::]:9", "vm1", true), "nbds://localhost:9/vm1");
  EXPECT_EQ(export_uri("vsock:3:9", "vm1", true), "nbds+vsock://3:9/vm1");
}

TEST(ExportUri, IsOneThatAStoreMayHave) {
  for (const char* address : {"unix:/s", "tcp:[::1]:9", "vsock:3:9"}) {
    for (const bool tls : {false, true}) {
      const Result<StoreUri> uri = parse_store_uri(export_uri(address, "vm@1:x", tls));
      ASSERT_TRUE(uri.ok()) << uri.error().message();
      EXPECT_EQ(uri->tls, tls);
      EXPECT_EQ(uri->export_name, "vm@1:x");
    }
  }
}

}  // namespace
}  // namespace blockmig
