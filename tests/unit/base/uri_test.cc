// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/uri.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace blockmig {
namespace {

StoreUri parsed(const std::string& text) {
  const auto uri = parse_store_uri(text);
  EXPECT_TRUE(uri.ok()) << text << ": " << (uri.ok() ? "" : uri.error().message());
  return uri.ok() ? *uri : StoreUri{};
}

void expect_refused(const std::string& text, ErrorCode code, const std::string& part) {
  const auto uri = parse_store_uri(text);
  ASSERT_FALSE(uri.ok()) << text;
  EXPECT_EQ(uri.error().code(), code) << text;
  EXPECT_NE(uri.error().message().find(part), std::string::npos)
      << text << ": " << uri.error().message();
  EXPECT_NE(uri.error().message().find(text.substr(0, 100)), std::string::npos)
      << "the message names the text: " << uri.error().message();
}

TEST(StoreUri, PlainPathsBecomeAbsolute) {
  const StoreUri absolute = parsed("/srv/a disk%20.img?x#y");
  EXPECT_EQ(absolute.kind, StoreUri::Kind::kFile);
  EXPECT_EQ(absolute.path, "/srv/a disk%20.img?x#y");
  EXPECT_EQ(absolute.text, "file:///srv/a%20disk%2520.img%3Fx%23y");

  const std::string here = std::filesystem::current_path().string();
  EXPECT_EQ(parsed("disk.img").path, here + "/disk.img");
  EXPECT_EQ(parsed("a:b").path, here + "/a:b");
  EXPECT_EQ(parsed("./rbd:pool/x").path, here + "/./rbd:pool/x");
  // Not normalised: a symbolic link before ".." would make it another file.
  EXPECT_EQ(parsed("/a/../b").path, "/a/../b");
}

TEST(StoreUri, FileUrisAreDecoded) {
  EXPECT_EQ(parsed("file:///srv/a%20b.img").path, "/srv/a b.img");
  EXPECT_EQ(parsed("file:/srv/x").path, "/srv/x");
  EXPECT_EQ(parsed("FILE://localhost/srv/x").path, "/srv/x");
  const StoreUri raw = parsed("file:///srv/x?format=raw");
  EXPECT_EQ(raw.path, "/srv/x");
  EXPECT_EQ(raw.query.at("format"), "raw");
}

TEST(StoreUri, NbdOverTcp) {
  const StoreUri uri = parsed("nbd://host.example:10810/disk%200/x");
  EXPECT_EQ(uri.kind, StoreUri::Kind::kNbd);
  EXPECT_FALSE(uri.tls);
  EXPECT_EQ(uri.host, "host.example");
  EXPECT_EQ(uri.port, 10810);
  EXPECT_EQ(uri.export_name, "disk 0/x");
  EXPECT_EQ(uri.text, "nbd://host.example:10810/disk%200/x");

  EXPECT_EQ(parsed("nbd://h").port, kNbdPort);
  EXPECT_EQ(parsed("nbd://h").export_name, "");
  EXPECT_EQ(parsed("nbd://h:/x").port, kNbdPort);
  const StoreUri v6 = parsed("nbds://[::1]:99/x?tls-psk-file=/etc/keys.psk");
  EXPECT_EQ(v6.host, "::1");
  EXPECT_EQ(v6.port, 99);
  EXPECT_TRUE(v6.tls);
  EXPECT_EQ(v6.query.at("tls-psk-file"), "/etc/keys.psk");
}

TEST(StoreUri, NbdOverUnixSocketAndVsock) {
  const StoreUri uri = parsed("nbd+unix:///disk0?socket=/run/b%20m.sock");
  EXPECT_EQ(uri.socket_path, "/run/b m.sock");
  EXPECT_EQ(uri.export_name, "disk0");
  EXPECT_EQ(uri.text, "nbd+unix:///disk0?socket=/run/b%20m.sock");
  EXPECT_TRUE(parsed("nbds+unix:///?socket=/s").tls);
  EXPECT_EQ(parsed("nbd+unix://?socket=/s").export_name, "");

  const std::string here = std::filesystem::current_path().string();
  EXPECT_EQ(parsed("nbd+unix:///?socket=x.sock").socket_path, here + "/x.sock");
  EXPECT_NE(parsed("nbd+unix:///?socket=x.sock").text.find(here.substr(0, 5)), std::string::npos);

  const StoreUri vsock = parsed("nbd+vsock://2:1234/x");
  EXPECT_EQ(vsock.host, "2");
  EXPECT_EQ(vsock.port, 1234);
}

TEST(StoreUri, CanonicalTextParsesToTheSame) {
  const std::vector<std::string> texts = {"disk.img",
                                          "/a b/c?d#e%f",
                                          "file:///x%3F?format=raw",
                                          "nbd://h:1/e%20x",
                                          "nbds+unix:///e?socket=rel.sock&tls-certificates=/c%26d",
                                          "nbd+vsock://2/x"};
  for (const std::string& text : texts) {
    const StoreUri uri = parsed(text);
    EXPECT_EQ(parsed(uri.text), uri) << text << " → " << uri.text;
  }
}

TEST(StoreUri, ImageFormatsAreRefusedWithAWayOut) {
  for (const std::string format : {"qcow2", "vmdk", "vhdx", "vdi", "vpc", "luks"}) {
    expect_refused("file:///x?format=" + format, ErrorCode::kNotSupported, "nbd+unix:///?socket=");
    expect_refused("file:///x?format=" + format, ErrorCode::kNotSupported, "qemu-img convert");
  }
  expect_refused("file:///x?format=exe", ErrorCode::kInvalid, "unknown format 'exe'");
}

TEST(StoreUri, OtherSchemesAreRefusedByName) {
  expect_refused("blockmig://host/disk", ErrorCode::kNotSupported, "accepted:");
  expect_refused("rbd:pool/image", ErrorCode::kNotSupported, "qemu-nbd");
  expect_refused("http://x/y", ErrorCode::kInvalid, "unknown scheme 'http'");
  expect_refused("http://x/y", ErrorCode::kInvalid, "nbd+unix:///EXPORT?socket=PATH");
  expect_refused("nbd:localhost:10809", ErrorCode::kInvalid, "write nbd://");
}

TEST(StoreUri, MalformedTextsAreRefused) {
  expect_refused("", ErrorCode::kInvalid, "empty");
  expect_refused(std::string(5000, 'x'), ErrorCode::kInvalid, "4096");
  expect_refused("file:///x%2", ErrorCode::kInvalid, "percent");
  expect_refused("file:///x%zz", ErrorCode::kInvalid, "percent");
  expect_refused("file:///x%00y", ErrorCode::kInvalid, "%00");
  expect_refused("file://host/x", ErrorCode::kInvalid, "no host");
  expect_refused("file:x", ErrorCode::kInvalid, "absolute");
  expect_refused("file:///x#y", ErrorCode::kInvalid, "%23");
  expect_refused("file:///x?mode=rw", ErrorCode::kInvalid, "'mode'");
  expect_refused("file:///x?format=raw&format=raw", ErrorCode::kInvalid, "twice");
  expect_refused("file:///x?raw", ErrorCode::kInvalid, "NAME=VALUE");
  expect_refused("nbd+unix:///x", ErrorCode::kInvalid, "socket is missing");
  expect_refused("nbd+unix:///x?socket=", ErrorCode::kInvalid, "socket is missing");
  expect_refused("nbd+unix://host/x?socket=/s", ErrorCode::kInvalid, "no host");
  expect_refused("nbd:///x", ErrorCode::kInvalid, "host is missing");
  expect_refused("nbd://h/x?socket=/s", ErrorCode::kInvalid, "nbd+unix");
  expect_refused("nbd://h:0/x", ErrorCode::kInvalid, "port");
  expect_refused("nbd://h:65536/x", ErrorCode::kInvalid, "port");
  expect_refused("nbd://h:12x/x", ErrorCode::kInvalid, "port");
  expect_refused("nbd://[::1/x", ErrorCode::kInvalid, "not closed");
  expect_refused("nbd://[::1]x/x", ErrorCode::kInvalid, ":PORT");
  expect_refused("nbd://me@h/x", ErrorCode::kInvalid, "user name");
  expect_refused("nbd://h/a b", ErrorCode::kInvalid, "percent-encoded");
}

TEST(StoreUri, ControlBytesDoNotReachTheMessage) {
  const auto uri = parse_store_uri("nbd://h/\x1b[2J");
  ASSERT_FALSE(uri.ok());
  EXPECT_EQ(uri.error().message().find('\x1b'), std::string::npos);
}

TEST(StoreUri, ANulByteIsRefused) {
  const auto uri = parse_store_uri(std::string("/a\0b", 4));
  ASSERT_FALSE(uri.ok());
  EXPECT_EQ(uri.error().code(), ErrorCode::kInvalid);
}

}  // namespace
}  // namespace blockmig
