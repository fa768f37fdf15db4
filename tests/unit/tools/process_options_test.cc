// SPDX-License-Identifier: Apache-2.0
// The options of the serving process: from the command line and from a configuration file.
#include "tools/cli/process_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "nbdserver/limit_table.h"
#include "tests/unit/tools/scratch.h"
#include "tools/cli/command_line.h"
#include "tools/cli/config_file.h"

namespace blockmig {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

ProcessSettings settings(const std::string& text) {
  const auto outcome = parse_daemon_command_line(words(text));
  EXPECT_TRUE(outcome.command.has_value()) << text << ": " << outcome.text;
  return outcome.command.value_or(DaemonCommandLine{}).process;
}

std::string complaint(const std::string& text) {
  const auto outcome = parse_daemon_command_line(words(text));
  EXPECT_FALSE(outcome.command.has_value()) << text;
  EXPECT_EQ(outcome.exit_code, 2) << text;
  return outcome.text;
}

TEST(ProcessOptions, AreTakenFromTheCommandLine) {
  const ProcessSettings given = settings(
      "--listen unix:/x --listen tcp::10809 --listen vsock:2:5 --socket-mode 0660 --socket-group "
      "36 "
      "--allow-uid 1000 --allow-uid root --allow-gid 7 --limit connections=9 "
      "--limit handshake-time=2s --threads 3 --loop portable --log json --stdio --disk a=/a.img");
  EXPECT_THAT(given.listen, ElementsAre("unix:/x", "tcp::10809", "vsock:2:5"));
  EXPECT_EQ(given.unix_sockets.mode, 0660u);
  EXPECT_EQ(given.unix_sockets.gid, 36u);
  EXPECT_THAT(given.peers.allowed_uids, ElementsAre(1000u, 0u));
  EXPECT_THAT(given.peers.allowed_gids, ElementsAre(7u));
  EXPECT_EQ(given.limits.max_connections, 9u);
  EXPECT_EQ(given.limits.handshake_timeout, std::chrono::seconds(2));
  EXPECT_EQ(given.threads, 3u);
  EXPECT_FALSE(given.bwlimit_bytes_per_second);
  EXPECT_EQ(settings("--bwlimit 5MiB/s").bwlimit_bytes_per_second, 5u << 20);
  EXPECT_EQ(settings("--bwlimit none").bwlimit_bytes_per_second, 0u);
  EXPECT_EQ(settings("--stop-timeout 2s").stop_timeout, std::chrono::seconds(2));
  EXPECT_THAT(complaint("--stop-timeout soon"), HasSubstr("--stop-timeout"));
  EXPECT_THAT(complaint("--bwlimit fast"), HasSubstr("--bwlimit"));
  EXPECT_EQ(given.loop, LoopKind::kPortable);
  EXPECT_EQ(given.log, LogForm::kJson);
  EXPECT_TRUE(given.stdio);
  ASSERT_EQ(given.disks.size(), 1u);
  EXPECT_EQ(given.disks[0].name, "a");
  EXPECT_EQ(given.disks[0].source, "file:///a.img");
}

TEST(ProcessOptions, DefaultsRestrictNobodyAndKeepTheLimits) {
  const ProcessSettings given = settings("");
  EXPECT_FALSE(given.peers.restrict());
  EXPECT_FALSE(given.unix_sockets.mode || given.unix_sockets.gid);
  EXPECT_EQ(given.threads, 0u);
  EXPECT_EQ(given.security.tls, "off");
  EXPECT_THAT(given.fixed_at_start, IsEmpty());
  for (const LimitInfo& limit : limit_table()) {
    EXPECT_EQ(limit.get(given.limits), limit.get(NbdServerLimits{})) << limit.name;
  }
}

TEST(ProcessOptions, CredentialsMeanThatTlsIsRequiredUnlessToldOtherwise) {
  EXPECT_EQ(settings("--tls-psk /keys").security.tls, "require");
  EXPECT_EQ(settings("--tls-certs /pki").security.tls, "require");
  EXPECT_EQ(settings("--tls on --tls-certs /pki").security.tls, "on");
  EXPECT_TRUE(settings("--tls-certs /pki").security.tls_verify_peer);
  EXPECT_FALSE(settings("--tls-certs /pki --tls-any-client").security.tls_verify_peer);
}

TEST(ProcessOptions, SayWhatIsWrong) {
  EXPECT_THAT(complaint("--socket-mode 0999"), HasSubstr("--socket-mode: '0999' is no mode"));
  EXPECT_THAT(complaint("--socket-mode 01777"), HasSubstr("--socket-mode"));
  EXPECT_THAT(complaint("--socket-mode rw"), HasSubstr("--socket-mode"));
  EXPECT_THAT(complaint("--socket-group no-such-group"), HasSubstr("no group 'no-such-group'"));
  EXPECT_THAT(complaint("--allow-uid no-such-user"), HasSubstr("no user 'no-such-user'"));
  EXPECT_THAT(complaint("--allow-uid 4294967295"), HasSubstr("--allow-uid"));
  EXPECT_THAT(complaint("--allow-gid -1"), HasSubstr("--allow-gid"));
  EXPECT_THAT(complaint("--threads 0"), HasSubstr("not from 1 to 64"));
  EXPECT_THAT(complaint("--threads 65"), HasSubstr("not from 1 to 64"));
  EXPECT_THAT(complaint("--threads two"), HasSubstr("--threads"));
  EXPECT_THAT(complaint("--limit conections=1"), HasSubstr("did you mean 'connections'?"));
  EXPECT_THAT(complaint("--limit connections"), HasSubstr("NAME=VALUE"));
  EXPECT_THAT(complaint("--limit advertised-bytes=1GiB"), HasSubstr("request-bytes"));
  EXPECT_THAT(complaint("--listen vsock:9"), HasSubstr("vsock:CID:PORT"));
  EXPECT_THAT(complaint("--disk a"), HasSubstr("NAME=STORE"));
  EXPECT_THAT(complaint("--disk .a=/x"), HasSubstr("invalid disk name"));
}

TEST(ProcessOptions, OnlyWhoSaysSoServesANetworkWithoutTls) {
  EXPECT_FALSE(settings("--listen tcp::10809").security.open_to_networks);
  EXPECT_TRUE(settings("--listen tcp::10809 --tls off").security.open_to_networks);
}

TEST(ProcessOptions, AnEmptyNameIsNobodyAndNotEverybody) {
  EXPECT_FALSE(parse_daemon_command_line({"--allow-uid", ""}).command);
  EXPECT_FALSE(parse_daemon_command_line({"--allow-gid="}).command);
}

TEST(ProcessOptions, ServeKnowsWhichOfThemARunningDaemonCannotTakeOn) {
  const auto outcome = parse_command_line(words(
      "serve a --source /a --listen unix:/x --loop portable --allow-uid 0 --limit options=9"));
  ASSERT_TRUE(outcome.command) << outcome.text;
  EXPECT_THAT(outcome.command->process.fixed_at_start, ElementsAre("--allow-uid", "--limit"));
  EXPECT_EQ(outcome.command->process.limits.max_options, 9u);
  EXPECT_THAT(outcome.command->serve.listen, ElementsAre("unix:/x"));
  EXPECT_FALSE(parse_command_line(words("serve a --disk b=/b")).command);
}

TEST(ProcessOptions, HelpAndLimitsCanBeAskedFor) {
  const auto help = parse_daemon_command_line({"--help"});
  for (const ProcessOption& option : process_options()) {
    EXPECT_THAT(help.text, HasSubstr(std::string("--") + option.name));
  }
  const auto limits = parse_daemon_command_line(words("--limits --limit options=9"));
  ASSERT_TRUE(limits.command);
  EXPECT_TRUE(limits.command->show_limits);
  EXPECT_FALSE(parse_command_line(words("help nothing")).command);
}

class ConfigFileTest : public testing::Test {
 protected:
  std::string write(const std::string& text) {
    const std::string path = scratch_ / "blockmigd.toml";
    std::ofstream(path) << text;
    return path;
  }
  ProcessSettings with(const std::string& text, const std::string& command_line = "") {
    return settings("--config " + write(text) + " " + command_line);
  }
  std::string wrong(const std::string& text) { return complaint("--config " + write(text)); }
  Scratch scratch_;
};

TEST_F(ConfigFileTest, HasTheNamesOfTheOptions) {
  const auto outcome = parse_daemon_command_line({"--config", write(R"(
    # a comment
    state-dir = "/var/lib/b"
    listen = ["unix:/x", "tcp::10809"]
    socket-mode = "0660"
    allow-uid = [1000, "root"]
    allow-gid = 36
    threads = 2
    log = "text"
    stdio = true
    disk = ["a=/a.img"]
    [limit]
    connections = 9
    handshake-time = "2s"
  )")});
  ASSERT_TRUE(outcome.command) << outcome.text;
  const ProcessSettings& given = outcome.command->process;
  EXPECT_EQ(outcome.command->state_dir, "/var/lib/b");
  EXPECT_THAT(given.listen, ElementsAre("unix:/x", "tcp::10809"));
  EXPECT_EQ(given.unix_sockets.mode, 0660u);
  EXPECT_THAT(given.peers.allowed_uids, ElementsAre(1000u, 0u));
  EXPECT_THAT(given.peers.allowed_gids, ElementsAre(36u));
  EXPECT_EQ(given.threads, 2u);
  EXPECT_EQ(given.log, LogForm::kText);
  EXPECT_TRUE(given.stdio);
  EXPECT_EQ(given.disks.size(), 1u);
  EXPECT_EQ(given.limits.max_connections, 9u);
  EXPECT_EQ(given.limits.handshake_timeout, std::chrono::seconds(2));
}

TEST_F(ConfigFileTest, TheCommandLineWinsAndLimitsComeFromBoth) {
  const ProcessSettings given =
      with("threads = 2\nlisten = \"unix:/x\"\nlimit = {connections = 9, options = 8}\n",
           "--threads 5 --listen unix:/y --limit options=7");
  EXPECT_EQ(given.threads, 5u);
  EXPECT_THAT(given.listen, ElementsAre("unix:/y"));
  EXPECT_EQ(given.limits.max_connections, 9u);
  EXPECT_EQ(given.limits.max_options, 7u);
}

TEST_F(ConfigFileTest, DisksComeFromBothAndPerNameFromTheCommandLine) {
  for (const char* in_file : {"disk = { vm1 = \"/a.img\", vm2 = \"/c.img\" }\n",
                              "disk = [\"vm1=/a.img\", \"vm2=/c.img\"]\n"}) {
    std::vector<std::string> disks;
    for (const DiskArgument& disk : with(in_file, "--disk vm1=/b.img --disk vm3=/d.img").disks) {
      disks.push_back(disk.name + "=" + disk.source);
    }
    EXPECT_THAT(disks, ElementsAre("vm2=file:///c.img", "vm1=file:///b.img", "vm3=file:///d.img"))
        << in_file;
  }
  EXPECT_EQ(with("limit = [\"connections=9\"]\n", "--limit options=7").limits.max_connections, 9u);
  EXPECT_THAT(complaint("--disk a=/a.img --disk a=/b.img"), HasSubstr("'a' is given twice"));
  EXPECT_THAT(wrong("disk = [\"a=/a.img\", \"a=/b.img\"]\n"), HasSubstr("'a' is given twice"));
}

TEST_F(ConfigFileTest, WhatIsGivenTwiceIsRefusedNotGuessed) {
  EXPECT_THAT(complaint("--limit connections=9 --limit connections=8"),
              HasSubstr("--limit: connections is given twice"));
  EXPECT_THAT(wrong("limit = [\"connections=9\", \"connections=8\"]\n"),
              HasSubstr("connections is given twice"));
  EXPECT_THAT(complaint("--listen unix:/x --listen tcp::10809 --listen unix:/x"),
              HasSubstr("--listen: 'unix:/x' is given twice"));
}

TEST_F(ConfigFileTest, AModeIsOctalAsInToml) {
  EXPECT_EQ(with("socket-mode = 0o660\n").unix_sockets.mode, 0660u);
  EXPECT_EQ(with("socket-mode = 0o0\n").unix_sockets.mode, 0u);
  EXPECT_EQ(with("socket-mode = \"660\"\n").unix_sockets.mode, 0660u);
  // 432 is 0660, and 0432 something else: neither is guessed.
  for (const char* number : {"432", "660", "0x1b0", "0b110", "-1"}) {
    EXPECT_THAT(wrong(std::string("threads = 2\nsocket-mode = ") + number + "\n"),
                HasSubstr("blockmigd.toml:2: 'socket-mode' must be octal, as 0o660 or \"0660\""))
        << number;
  }
  EXPECT_THAT(wrong("socket-mode = 0o1660\n"), HasSubstr("'1660' is no mode of a socket"));
}

TEST_F(ConfigFileTest, SaysWhereWhatIsWrong) {
  EXPECT_THAT(wrong("threads = 2\nlistn = \"unix:/x\"\n"),
              HasSubstr("blockmigd.toml:2: unknown key 'listn' (did you mean 'listen'?)"));
  EXPECT_THAT(wrong("config = \"x\"\n"), HasSubstr("unknown key 'config'"));
  EXPECT_THAT(wrong("threads = \n"), HasSubstr("blockmigd.toml:1"));
  EXPECT_THAT(wrong("stdio = \"yes\"\n"), HasSubstr("'stdio' must be true or false"));
  EXPECT_THAT(wrong("threads = [2]\n"), HasSubstr("'threads' must be a text or a whole number"));
  EXPECT_THAT(wrong("threads = 2.5\n"), HasSubstr("'threads' must be"));
  EXPECT_THAT(wrong("listen = [true]\n"), HasSubstr("'listen' must be a text"));
  EXPECT_THAT(wrong("allow-uid = \"\"\n"), HasSubstr("empty"));
  EXPECT_THAT(wrong("allow-uid = [\"\"]\n"), HasSubstr("empty"));
  EXPECT_THAT(wrong("allow-uid = []\n"), HasSubstr("empty"));
  EXPECT_THAT(wrong("socket-mode = \"\"\n"), HasSubstr("empty"));
  EXPECT_THAT(wrong("limit = {conections = 1}\n"), HasSubstr("did you mean 'connections'?"));
  EXPECT_THAT(wrong("limit = {connections = [1]}\n"), HasSubstr("'limit' must hold"));
  EXPECT_THAT(complaint("--config " + (scratch_ / "missing.toml")), HasSubstr("missing.toml"));
  EXPECT_THAT(complaint("--config " + scratch_.path()), HasSubstr("cannot read"));
}

}  // namespace
}  // namespace blockmig
