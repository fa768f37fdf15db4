// SPDX-License-Identifier: Apache-2.0
// Credentials from files: every message names the file and says what to do.
#include "blockmig/tls/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "made_certificates.h"

namespace blockmig {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kKeyLine = "alice:" + std::string(64, 'c') + "\n";

class CredentialsTest : public testing::Test {
 protected:
  CredentialsTest() { authority_.issue(folder_, "server", {}); }
  Error server_error(const TlsServerFiles& files) {
    const auto made = TlsCredentials::for_server(files);
    EXPECT_FALSE(made.ok());
    return made.ok() ? Error(ErrorCode::kIo, "(none)") : made.error();
  }
  Error server_error() { return server_error({folder_, ""}); }
  std::string file(const char* name) const { return folder_ + "/" + name; }
  void overwrite(const char* name, const std::string& content) {
    scratch_.write(std::string("pki/") + name, content);
  }

  ScratchFolder scratch_;
  Authority authority_{"Test CA"};
  const std::string folder_ = scratch_.path() + "/pki";
};

TEST_F(CredentialsTest, AServerTakesTheFolderTheKeysOrBoth) {
  const std::string keys = scratch_.write("keys.psk", kKeyLine);
  for (const TlsServerFiles& files : {TlsServerFiles{folder_, ""}, TlsServerFiles{"", keys},
                                      TlsServerFiles{folder_, scratch_.path()}}) {
    const auto made = TlsCredentials::for_server(files);
    ASSERT_TRUE(made.ok()) << made.error().message();
    EXPECT_TRUE((*made)->is_server());
    EXPECT_EQ((*made)->has_certificates(), !files.certificates_folder.empty());
    EXPECT_EQ((*made)->has_psk(), !files.psk_file.empty());
  }
}

TEST_F(CredentialsTest, NothingNamedIsRefused) {
  EXPECT_EQ(server_error({}).code(), ErrorCode::kInvalid);
  EXPECT_FALSE(TlsCredentials::for_client({}).ok());
  EXPECT_FALSE(TlsCredentials::for_client({folder_, "keys.psk", ""}).ok());
}

TEST_F(CredentialsTest, EachMissingFileIsNamed) {
  for (const char* name : {"ca-cert.pem", "server-cert.pem", "server-key.pem"}) {
    std::filesystem::rename(file(name), file("away"));
    const Error error = server_error();
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.message(), AllOf(HasSubstr(file(name)), HasSubstr("create it")));
    std::filesystem::rename(file("away"), file(name));
  }
  EXPECT_THAT(server_error({"", "/nonexistent/keys.psk"}).message(),
              HasSubstr("/nonexistent/keys.psk"));
}

TEST_F(CredentialsTest, AKeyThatOthersMayUseIsRefused) {
  for (const unsigned mode : {0644u, 0604u, 0602u, 0620u, 0601u}) {
    ASSERT_EQ(::chmod(file("server-key.pem").c_str(), mode), 0);
    const Error error = server_error();
    EXPECT_EQ(error.code(), ErrorCode::kPrecondition);
    EXPECT_THAT(error.message(), AllOf(HasSubstr(file("server-key.pem")), HasSubstr("chmod 0600")));
  }
  ASSERT_EQ(::chmod(file("server-key.pem").c_str(), 0640), 0);
  EXPECT_TRUE(TlsCredentials::for_server({folder_, ""}).ok()) << "a group shares keys on purpose";
  const std::string keys = scratch_.write("keys.psk", kKeyLine, 0644);
  EXPECT_THAT(server_error({"", keys}).message(), HasSubstr("chmod 0600 " + keys));
}

TEST_F(CredentialsTest, AnUnreadableFileIsNamed) {
  if (::geteuid() == 0) {
    // Root reads everything: a folder in the file's place is what it cannot read.
    std::filesystem::remove(file("server-key.pem"));
    std::filesystem::create_directory(file("server-key.pem"));
    EXPECT_THAT(server_error().message(),
                AllOf(HasSubstr(file("server-key.pem")), HasSubstr("not a regular file")));
    return;
  }
  ASSERT_EQ(::chmod(file("server-key.pem").c_str(), 0), 0);
  EXPECT_THAT(server_error().message(), AllOf(HasSubstr("cannot be read"), HasSubstr("key.pem")));
}

TEST_F(CredentialsTest, APipeInAFilesPlaceDoesNotHang) {
  std::filesystem::remove(file("server-cert.pem"));
  ASSERT_EQ(::mkfifo(file("server-cert.pem").c_str(), 0600), 0);
  EXPECT_THAT(server_error().message(), HasSubstr("not a regular file"));
}

TEST_F(CredentialsTest, TheKeyOfAnotherCertificateIsRefused) {
  const std::string other = scratch_.path() + "/other";
  authority_.issue(other, "server", {});
  std::filesystem::copy_file(other + "/server-key.pem", file("server-key.pem"),
                             std::filesystem::copy_options::overwrite_existing);
  const Error error = server_error();
  EXPECT_EQ(error.code(), ErrorCode::kPrecondition);
  EXPECT_THAT(error.message(), AllOf(HasSubstr(file("server-key.pem")),
                                     HasSubstr("does not belong to"), HasSubstr("-cert.pem")));
}

TEST_F(CredentialsTest, ExpiredAndFutureCertificatesAreRefused) {
  authority_.issue(folder_, "server", {.from_seconds = -7200, .until_seconds = -60});
  EXPECT_THAT(server_error().message(),
              AllOf(HasSubstr(file("server-cert.pem")), HasSubstr("expired on 20"),
                    HasSubstr("issued anew")));
  authority_.issue(folder_, "server", {.from_seconds = 3600, .until_seconds = 7200});
  EXPECT_THAT(server_error().message(), AllOf(HasSubstr("not valid before"), HasSubstr("clock")));
}

TEST_F(CredentialsTest, FilesThatAreSomethingElseAreRefused) {
  for (const char* name : {"ca-cert.pem", "server-cert.pem", "server-key.pem"}) {
    authority_.issue(folder_, "server", {});
    overwrite(name, "no PEM at all\n");
    const Error error = server_error();
    EXPECT_EQ(error.code(), ErrorCode::kInvalid) << name;
    EXPECT_THAT(error.message(), HasSubstr(file(name)));
    overwrite(name, "");
    EXPECT_THAT(server_error().message(), AllOf(HasSubstr(file(name)), HasSubstr("is empty")));
    overwrite(name, std::string((1 << 20) + 1, 'x'));
    EXPECT_THAT(server_error().message(), AllOf(HasSubstr(file(name)), HasSubstr("larger")));
  }
}

TEST_F(CredentialsTest, ABrokenRevocationListIsNotPassedOver) {
  scratch_.write("pki/ca-crl.pem", "nothing\n");
  EXPECT_THAT(server_error().message(), HasSubstr(file("ca-crl.pem")));
}

TEST_F(CredentialsTest, AClientMayDoWithoutACertificateButNotWithHalfAPair) {
  const std::string client = scratch_.path() + "/client";
  authority_.trust(client);
  EXPECT_TRUE(TlsCredentials::for_client({client, "", ""}).ok());
  authority_.issue(client, "client", {.for_server = false, .for_client = true});
  EXPECT_TRUE(TlsCredentials::for_client({client, "", ""}).ok());
  std::filesystem::remove(client + "/client-key.pem");
  const auto made = TlsCredentials::for_client({client, "", ""});
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(), HasSubstr("client-key.pem"));
}

TEST_F(CredentialsTest, AClientPicksItsKeyByUser) {
  const std::string one = scratch_.write("one.psk", kKeyLine);
  const std::string two = scratch_.write("two.psk", kKeyLine + "bob:" + std::string(64, 'd'));
  EXPECT_TRUE(TlsCredentials::for_client({"", one, ""}).ok());
  EXPECT_TRUE(TlsCredentials::for_client({"", two, "bob"}).ok());
  EXPECT_EQ(TlsCredentials::for_client({"", two, ""}).error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(TlsCredentials::for_client({"", two, "eve"}).error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace blockmig
