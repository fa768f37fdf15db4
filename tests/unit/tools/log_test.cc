// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "tools/daemon/connection_log.h"
#include "tools/daemon/log_limiter.h"

namespace blockmig {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

/// What the given writes put on stderr.
template <typename Body>
std::string written(Body body) {
  testing::internal::CaptureStderr();
  body();
  return testing::internal::GetCapturedStderr();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::string line;
  for (const char c : text) {
    if (c != '\n') {
      line += c;
    } else {
      lines.push_back(std::exchange(line, {}));
    }
  }
  return lines;
}

LogFields all_fields() {
  LogFields fields;
  fields.disk = "vm1";
  fields.job = "job-2";
  fields.epoch = 3;
  fields.client = 4;
  return fields;
}

TEST(LogTest, TextAndJsonCarryTheSameFields) {
  const std::string text = written([] { Log(LogForm::kText).info("hello", all_fields()); });
  EXPECT_THAT(text, HasSubstr("hello disk=vm1 job=job-2 epoch=3 client=4\n"));
  const std::string json = written([] { Log(LogForm::kJson).warning("hello", all_fields()); });
  EXPECT_THAT(json, MatchesRegex("\\{\"time\":\"[0-9T:.+-]+\",\"level\":\"warning\",\"message\":"
                                 "\"hello\",\"disk\":\"vm1\",\"job\":\"job-2\",\"epoch\":3,"
                                 "\"client\":4\\}\n"));
}

TEST(LogTest, UnknownFieldsAreLeftOut) {
  const std::string text = written([] { Log(LogForm::kJson).info("hello"); });
  for (const char* field : {"disk", "job", "epoch", "client"}) {
    EXPECT_THAT(text, Not(HasSubstr(field)));
  }
}

TEST(LogTest, HostileTextStaysOneLineInEveryForm) {
  LogFields fields;
  fields.disk = "a\nb";
  for (const LogForm form : {LogForm::kText, LogForm::kJson, LogForm::kSystemd}) {
    const std::string text =
        written([&] { Log(form).info("one\ntwo\x1b[31m \"quoted\" \\ \x7f {} %v", fields); });
    EXPECT_EQ(lines_of(text).size(), 1u) << text;
    EXPECT_THAT(text, Not(HasSubstr("\x1b[31m \"")));
    EXPECT_THAT(text, HasSubstr("{} %v")) << "it is no format";
  }
}

TEST(LogTest, TheOtherControlCharactersReachNoTerminal) {
  for (const LogForm form : {LogForm::kText, LogForm::kJson, LogForm::kSystemd}) {
    const std::string text = written([&] {
      Log(form).info(
          "a\xc2\x9b"
          "31mb \xc2\xa0 \xc3\x9b");
    });
    EXPECT_THAT(text, Not(HasSubstr("\xc2\x9b"))) << "CSI in one character";
    EXPECT_THAT(text, HasSubstr("\xc2\xa0 \xc3\x9b")) << "those are letters";
  }
  EXPECT_EQ(escape_for_json("\xc2\x80\xc2\x9f"), "\\u0080\\u009f");
}

TEST(LogTest, BytesThatAreNotUtf8DoNotSpoilJson) {
  EXPECT_EQ(escape_for_json("\xc3\xa4"), "\xc3\xa4");
  EXPECT_EQ(escape_for_json("\xe2\x82\xac\xf0\x9f\x92\xbe"), "\xe2\x82\xac\xf0\x9f\x92\xbe");
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(escape_for_json("\xff"), bad);
  EXPECT_EQ(escape_for_json("a\xc3"), "a" + bad);                         // cut short
  EXPECT_EQ(escape_for_json("\xc0\xaf"), bad + bad);                      // overlong
  EXPECT_EQ(escape_for_json("\xed\xa0\x80"), bad + bad + bad);            // a surrogate
  EXPECT_EQ(escape_for_json("\xf4\x90\x80\x80"), bad + bad + bad + bad);  // beyond Unicode
  EXPECT_EQ(escape_for_json("\"\\\x01"), "\\\"\\\\\\u0001");
}

TEST(LogTest, LevelsBelowTheChosenOneAreNotWritten) {
  const auto count = [](LogForm form, LogLevel level) {
    return lines_of(written([&] {
             Log log(form, level);
             log.debug("d");
             log.info("i");
             log.warning("w");
             log.error("e");
           }))
        .size();
  };
  EXPECT_EQ(count(LogForm::kJson, LogLevel::kDebug), 4u);
  EXPECT_EQ(count(LogForm::kJson, LogLevel::kInfo), 3u);
  EXPECT_EQ(count(LogForm::kText, LogLevel::kWarning), 2u);
  EXPECT_EQ(count(LogForm::kText, LogLevel::kError), 1u);
  EXPECT_EQ(count(LogForm::kSilent, LogLevel::kDebug), 1u);
}

TEST(LogTest, ForTheJournalEachLineBeginsWithItsPriority) {
  const std::string text = written([] {
    Log log(LogForm::kSystemd, LogLevel::kDebug);
    log.debug("d");
    log.info("i");
    log.warning("w");
    log.error("e");
  });
  EXPECT_EQ(text, "<7>d\n<6>i\n<4>w\n<3>e\n");
}

TEST(LogTest, TheJournalIsRecognisedByItsStream) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  struct stat status {};
  ASSERT_EQ(fstat(pipe_ends[1], &status), 0);
  const std::string name = std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
  EXPECT_TRUE(is_journal_stream(name.c_str(), pipe_ends[1]));
  EXPECT_FALSE(is_journal_stream("1:1", pipe_ends[1])) << "redirected away from the journal";
  EXPECT_FALSE(is_journal_stream(nullptr, pipe_ends[1]));
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST(LogLimiterTest, ABurstThenSoManyASecond) {
  LogLimiter limiter(10, 5);
  TimePoint now{};
  int admitted = 0;
  for (int i = 0; i < 100; ++i) admitted += limiter.admits(now) ? 1 : 0;
  EXPECT_EQ(admitted, 10);
  EXPECT_EQ(limiter.take_suppressed(now), 0u) << "there is no room to say it";
  now += seconds(1);
  EXPECT_EQ(limiter.take_suppressed(now), 90u);
  EXPECT_EQ(limiter.take_suppressed(now), 0u) << "said once";
  admitted = 0;
  for (int i = 0; i < 100; ++i) admitted += limiter.admits(now) ? 1 : 0;
  EXPECT_EQ(admitted, 4) << "five a second, one of them said what was suppressed";
  now += seconds(3600);
  admitted = 0;
  for (int i = 0; i < 100; ++i) admitted += limiter.admits(now) ? 1 : 0;
  EXPECT_EQ(admitted, 10) << "a long rest earns no more than a burst";
}

class ConnectionLogTest : public testing::Test {
 protected:
  static NbdClientInfo client(std::uint64_t id) {
    NbdClientInfo info;
    info.id = id;
    info.peer = "tcp:192.0.2.7:4711";
    info.export_name = "vm1";
    info.requests = 12;
    info.bytes_read = 4096;
    info.connected = seconds(90);
    return info;
  }

  static std::uint64_t epoch_of(const std::string& disk) { return disk == "vm1" ? 3 : 0; }

  Random random_{1};
  SimLoop loop_{random_};
};

TEST_F(ConnectionLogTest, SaysWhoCameAndWhatItDid) {
  const std::string text = written([&] {
    Log log(LogForm::kText);
    ConnectionLog connections(loop_, log, epoch_of);
    NbdClientInfo info = client(7);
    info.tls = true;
    info.tls_description = "TLS1.3";
    info.identity = "CN=vm-host-3";
    connections.on_connected(info);
    info.counters.errors.add(2);
    connections.on_gone(info, NbdClientEnd::kLeft);
    connections.on_gone(client(8), NbdClientEnd::kProtocol);
    connections.on_handshake_failed(client(9), NbdHandshakeFailure::kTimeout);
    NbdClientInfo stranger = client(10);
    stranger.tls_error = "no certificate";
    connections.on_handshake_failed(stranger, NbdHandshakeFailure::kTls);
    connections.on_refused({"unix:/s", NbdRefusalReason::kTooManyConnections});
    connections.on_stalled(client(11));
    NbdClientInfo nobody = client(12);
    nobody.export_name = "nope";
    connections.on_handshake_failed(nobody, NbdHandshakeFailure::kUnknownExport);
  });
  const std::vector<std::string> lines = lines_of(text);
  ASSERT_EQ(lines.size(), 8u) << text;
  EXPECT_THAT(lines[0],
              HasSubstr("info client 7 (tcp:192.0.2.7:4711, TLS1.3, CN=vm-host-3) connected "
                        "disk=vm1 epoch=3 client=7"));
  EXPECT_THAT(lines[1], HasSubstr("left after"));
  EXPECT_THAT(lines[1],
              HasSubstr("12 requests, 4 KiB read, 0 B written, 2 errors disk=vm1 epoch=3"));
  EXPECT_THAT(lines[2], HasSubstr("warning client 8"));
  EXPECT_THAT(lines[2], HasSubstr("dropped for breaking the protocol"));
  EXPECT_THAT(lines[3], HasSubstr("did not finish the negotiation in time"));
  EXPECT_THAT(lines[4], HasSubstr("client 10 (tcp:192.0.2.7:4711) failed in the TLS handshake: "
                                  "no certificate"));
  EXPECT_THAT(lines[5], HasSubstr("connection of unix:/s refused: there are too many connections"));
  EXPECT_THAT(lines[6], HasSubstr("client 11 (tcp:192.0.2.7:4711) is cut"));
  EXPECT_THAT(lines[6], HasSubstr("disk=vm1 epoch=3 client=11"));
  EXPECT_THAT(lines[7], HasSubstr("disk=nope client=12")) << "of no disk there is no epoch";
}

TEST_F(ConnectionLogTest, AFloodOfBadClientsIsALineThatCountsThem) {
  const std::string text = written([&] {
    Log log(LogForm::kText);
    ConnectionLog connections(loop_, log, epoch_of);
    for (std::uint64_t i = 1; i <= 10'000; ++i) {
      connections.on_handshake_failed(client(i), NbdHandshakeFailure::kProtocol);
    }
    connections.on_connected(client(10'001));  // good news does not drown in bad news
    run_task(loop_, sleep_for(loop_, seconds(2)));
    connections.tick();
    connections.tick();
  });
  const std::vector<std::string> lines = lines_of(text);
  EXPECT_EQ(lines.size(), ConnectionLog::kBurstLines + 2) << text;
  EXPECT_THAT(text, HasSubstr("client 10001 "));
  EXPECT_THAT(lines.back(),
              HasSubstr("suppressed 9950 lines about refused or misbehaving clients"));
}

}  // namespace
}  // namespace blockmig
