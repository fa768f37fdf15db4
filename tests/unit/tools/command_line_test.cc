// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/command_line.h"
#include "tools/cli/tls_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace blockmig {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

CommandLine parse(const std::string& text) {
  const auto outcome = parse_command_line(words(text));
  EXPECT_TRUE(outcome.command.has_value()) << text << ": " << outcome.text;
  return outcome.command.value_or(CommandLine{});
}

TEST(CommandLine, EveryVerbIsReached) {
  const std::pair<const char*, Verb> cases[] = {
      {"serve vm1 --source /a", Verb::kServe},
      {"migrate vm1 --to /b", Verb::kMigrate},
      {"backup vm1 /b", Verb::kBackup},
      {"status", Verb::kStatus},
      {"abort job-1", Verb::kAbort},
      {"pause vm1", Verb::kPause},
      {"resume vm1", Verb::kResume},
      {"set job-1 bwlimit=1MiB/s", Verb::kSet},
      {"ls disks", Verb::kList},
      {"verify /a /b", Verb::kVerify},
      {"bitmap add vm1 b0", Verb::kBitmapAdd},
      {"bitmap rm vm1 b0", Verb::kBitmapRemove},
      {"bitmap remove vm1 b0", Verb::kBitmapRemove},
      {"bitmap merge vm1 week b0 b1", Verb::kBitmapMerge},
      {"bitmap ls vm1", Verb::kBitmapList},
      {"force-own /a --epoch 3 --owner u", Verb::kForceOwn},
      {"disconnect 3", Verb::kDisconnect},
      {"detach vm1", Verb::kDetach},
      {"stop", Verb::kStop},
      {"version", Verb::kVersion},
      {"metrics", Verb::kMetrics},
      {"help limits", Verb::kHelp},
  };
  for (const auto& [text, verb] : cases) EXPECT_EQ(parse(text).verb, verb) << text;
}

TEST(CommandLine, ForceOwnTakesItsProof) {
  const CommandLine command = parse("force-own /a/x.img --epoch 3 --owner some-id");
  EXPECT_EQ(command.subject, "/a/x.img");
  EXPECT_EQ(command.proof_epoch, 3U);
  EXPECT_EQ(command.proof_owner, "some-id");
  EXPECT_FALSE(parse_command_line(words("force-own")).command.has_value());
}

TEST(CommandLine, ServeTakesItsOptions) {
  const CommandLine command = parse(
      "--state-dir /s serve vm1 --source /a --listen unix:/x --listen tcp:127.0.0.1:99 --read-only "
      "--cache direct --loop portable --bitmap b0:4k --bitmap b1 --description hello");
  EXPECT_EQ(command.state_dir, "/s");
  EXPECT_EQ(command.serve.disk, "vm1");
  EXPECT_EQ(command.serve.source, "file:///a");
  EXPECT_THAT(command.serve.listen, ElementsAre("unix:/x", "tcp:127.0.0.1:99"));
  EXPECT_TRUE(command.serve.read_only);
  EXPECT_EQ(command.serve.cache, CacheMode::kDirect);
  EXPECT_EQ(command.process.loop, LoopKind::kPortable);
  EXPECT_THAT(command.serve.bitmaps, ElementsAre(BitmapSpec{"b0", 4096}, BitmapSpec{"b1", 65536}));
  EXPECT_EQ(command.serve.description, "hello");
}

TEST(CommandLine, VerifyTakesCredentials) {
  const CommandLine command =
      parse("verify vm1 /b --tls-user bob --tls-psk-file /k.psk --tls-certificates /pki");
  EXPECT_EQ(command.tls.user, "bob");
  EXPECT_EQ(command.tls.psk_file, "/k.psk");
  EXPECT_EQ(command.tls.certificates, "/pki");
}

TEST(TlsClient, GivesAUriWhatItDoesNotSayItself) {
  const TlsClient client{"bob", "/a key.psk", "/pki"};
  const auto given = [&client](const char* text) {
    return with_credentials(*parse_store_uri(text), client)->text;
  };
  const auto bare = *parse_store_uri(given("nbds+unix:///vm1?socket=/run/s"));
  EXPECT_EQ(bare.tls_user, "bob");
  EXPECT_EQ(bare.query.at("tls-psk-file"), "/a key.psk");
  EXPECT_EQ(bare.query.at("tls-certificates"), "/pki");
  EXPECT_EQ(bare.socket_path, "/run/s");
  const auto own = *parse_store_uri(given("nbds://al@h/vm1?tls-psk-file=/own&tls-certificates=/o"));
  EXPECT_EQ(own.tls_user, "al");
  EXPECT_EQ(own.query.at("tls-psk-file"), "/own");
  EXPECT_EQ(own.query.at("tls-certificates"), "/o");
  for (const char* plain : {"nbd://h/vm1", "/srv/a.img", "null:1MiB"}) {
    EXPECT_EQ(given(plain), parse_store_uri(plain)->text) << "no TLS, no credentials";
  }
  EXPECT_EQ(with_credentials(*parse_store_uri("nbds://h/vm1"), {})->text, "nbds://h/vm1");
}

TEST(CommandLine, ListenMayStandBeforeTheDisk) {
  const CommandLine command = parse("serve --listen unix:/x vm1 --source /a");
  EXPECT_EQ(command.serve.disk, "vm1");
  EXPECT_THAT(command.serve.listen, ElementsAre("unix:/x"));
}

TEST(CommandLine, RelativePathsBecomeAbsolute) {
  EXPECT_THAT(parse("serve vm1 --source a --listen unix:x").serve.listen[0], HasSubstr("unix:/"));
  EXPECT_THAT(parse("serve vm1 --source a").serve.source, HasSubstr("file:///"));
  EXPECT_THAT(parse("migrate vm1 --to b").migrate.target, HasSubstr("file:///"));
}

TEST(CommandLine, APointInTimeIsCopiedByModeSnapshot) {
  const CommandLine command = parse("migrate vm1 --to /b --point-in-time --snapshot-buffer 8MiB");
  EXPECT_EQ(command.migrate.options.mode, Mode::kSnapshot);
  EXPECT_TRUE(command.migrate.options.point_in_time);
  EXPECT_EQ(command.migrate.options.snapshot_buffer_bytes, 8 * kMiB);
}

TEST(CommandLine, TheWayBackIsRecordedAndTaken) {
  EXPECT_FALSE(parse("migrate vm1 --to /b").migrate.options.keep_record);
  EXPECT_TRUE(parse("migrate vm1 --to /b --keep-record").migrate.options.keep_record);
  EXPECT_EQ(parse("migrate vm1 --to /a --mode return").migrate.options.mode, Mode::kReturn);
}

TEST(CommandLine, ADiskSettlesHereOrIntoItsFolder) {
  EXPECT_EQ(parse("settle vm1").subject, "vm1");
  EXPECT_EQ(parse("settle vm1").migrate.target, "");
  const MigrateRequest into = parse("settle vm1 --into /srv/folder --bwlimit 1MiB/s").migrate;
  EXPECT_EQ(into.disk, "vm1");
  EXPECT_EQ(into.target, "file:///srv/folder");
  EXPECT_EQ(into.options.mode, Mode::kSettle);
  EXPECT_EQ(into.options.on_stall, OnStall::kThrottle);
  EXPECT_EQ(into.options.bwlimit_bytes_per_second, kMiB);
  for (const char* wrong : {"settle vm1 --into /f --on-stall mirror", "settle vm1 --verify full",
                            "migrate vm1 --to /f --mode settle"}) {
    EXPECT_FALSE(parse_command_line(words(wrong)).command.has_value()) << wrong;
  }
}

TEST(CommandLine, BackupIsAPointInTimeSinceABitmap) {
  const MigrateRequest full = parse("backup vm1 /b/x.img").migrate;
  EXPECT_TRUE(full.backup && full.options.point_in_time);
  EXPECT_EQ(full.options.mode, Mode::kSnapshot);
  EXPECT_EQ(full.target, "file:///b/x.img");
  EXPECT_TRUE(full.options.since_bitmap.empty() && !full.bitmap);
  const CommandLine command =
      parse("backup vm1 /b --since mon --bitmap tue:4KiB --bwlimit 1MiB/s --detach");
  EXPECT_EQ(command.migrate.disk, "vm1");
  EXPECT_EQ(command.migrate.options.since_bitmap, "mon");
  EXPECT_EQ(command.migrate.bitmap, (BitmapSpec{"tue", 4096}));
  EXPECT_EQ(command.migrate.options.bwlimit_bytes_per_second, 1048576u);
  EXPECT_FALSE(command.wait);
  for (const char* const wrong :
       {"backup vm1", "backup vm1 /b --since a --bitmap a", "backup vm1 /b --verify full",
        "backup vm1 /b --bitmap x/y", "backup vm1 /b --mode dbt"}) {
    EXPECT_FALSE(parse_command_line(words(wrong)).command.has_value()) << wrong;
  }
}

TEST(CommandLine, MigrateTakesItsOptions) {
  const CommandLine command = parse(
      "migrate vm1 --to /b --mode dbt --bwlimit 200MiB/s --max-downtime 20ms --mirror-deadline 5ms "
      "--on-stall postcopy --reverse-mirror off --base-patience 2s --verify full "
      "--granularity 4KiB --copy-depth 64 --copy-size 2MiB --target-timeout 3s --timeout 1min -o "
      "json --on-target-error retry --retry-for 5s --max-guest-latency 2ms");
  const JobOptions& options = command.migrate.options;
  EXPECT_EQ(options.mode, Mode::kDbt);
  EXPECT_EQ(options.bwlimit_bytes_per_second, 200 * kMiB);
  EXPECT_EQ(options.max_downtime, std::chrono::milliseconds(20));
  EXPECT_EQ(options.mirror_deadline, std::chrono::milliseconds(5));
  EXPECT_EQ(options.on_stall, OnStall::kPostcopy);
  EXPECT_FALSE(options.reverse_mirror);
  EXPECT_EQ(options.base_patience, std::chrono::seconds(2));
  EXPECT_EQ(options.verify, Verify::kFull);
  EXPECT_EQ(options.granularity_bytes, 4096u);
  EXPECT_EQ(options.copy_depth, 64u);
  EXPECT_EQ(options.copy_request_bytes, 2 * kMiB);
  EXPECT_GE(options.copy_window_bytes, 128 * kMiB);
  EXPECT_EQ(options.target_timeout, std::chrono::seconds(3));
  EXPECT_EQ(options.on_target_error, OnTargetError::kRetry);
  EXPECT_EQ(options.retry_for, std::chrono::seconds(5));
  EXPECT_EQ(options.max_guest_latency, std::chrono::milliseconds(2));
  EXPECT_EQ(command.timeout, std::chrono::minutes(1));
  EXPECT_EQ(command.format, OutputFormat::kJson);
  EXPECT_TRUE(command.wait);
  EXPECT_FALSE(parse("migrate vm1 --to /b --detach").wait);
}

TEST(CommandLine, AnOptionThatItsModeDoesNotKnowIsRefused) {
  const std::string wrong[] = {
      "--mode dbt --deadline 1min",
      "--mode mirror --snapshot-buffer 8MiB",
      "--mode postcopy --hydrate background",
      "--mode mirror --reverse-mirror off",
      "--mode snapshot --base-patience 2s",
      "--on-target-error pause --retry-for 5s",
      "--mode cold --mirror-deadline 5ms",
      "--mode cold --on-stall fail",
      "--mode postcopy --on-stall fail",
      "--mode hybrid --on-stall throttle",
      "--point-in-time --checkpoint-interval 1s",
      "--mode postcopy --checkpoint-interval 1s",
      "--on-restart abort --checkpoint-interval 1s",
  };
  for (const std::string& options : wrong) {
    const auto parsed = parse_command_line(words("migrate vm1 --to /b " + options));
    EXPECT_FALSE(parsed.command.has_value()) << options;
    EXPECT_THAT(parsed.text, HasSubstr("has no effect here: it goes with")) << options;
  }
  const std::string right[] = {
      "--mode auto --deadline 1min --on-stall postcopy --base-patience 2s",
      "--mode snapshot --snapshot-buffer 8MiB --on-stall throttle --mirror-deadline 5ms",
      "--mode snapshot --checkpoint-interval 1s",
      "--mode cold --on-restart pause --checkpoint-interval 1s",
      "--mode shared --on-stall fail --checkpoint-interval 1s",
      "--mode shared --hydrate background --base-patience 2s",
      "--mode hybrid --reverse-mirror off --on-target-error retry --retry-for 5s",
  };
  for (const std::string& options : right) {
    EXPECT_TRUE(parse_command_line(words("migrate vm1 --to /b " + options)).command) << options;
  }
  const auto pauses = parse("migrate vm1 --to /b --on-target-error pause").migrate.options;
  EXPECT_EQ(pauses.on_target_error, OnTargetError::kPause);
}

TEST(CommandLine, DefaultsAreTheEnginesOwn) {
  const CommandLine command = parse("migrate vm1 --to /b");
  EXPECT_EQ(command.migrate.options.mode, JobOptions{}.mode);
  EXPECT_EQ(command.migrate.options.max_downtime, JobOptions{}.max_downtime);
  EXPECT_FALSE(command.mode_given);
  EXPECT_TRUE(command.wait);
}

TEST(CommandLine, SetTakesARateOrNone) {
  EXPECT_EQ(parse("set job-1 bwlimit=1MiB/s").change.bwlimit_bytes_per_second, kMiB);
  EXPECT_EQ(parse("set job-1 bwlimit=none").change.bwlimit_bytes_per_second, 0u);
  const CommandLine both = parse("set vm1 priority=high bwlimit=none");
  EXPECT_EQ(both.change.priority, Priority::kHigh);
  EXPECT_EQ(both.change.bwlimit_bytes_per_second, 0u);
  EXPECT_FALSE(parse("set vm1 priority=low").change.bwlimit_bytes_per_second);
  EXPECT_EQ(parse("set vm1 max-downtime=500ms").change.max_downtime,
            std::chrono::milliseconds(500));
  const CommandLine daemon = parse("set --daemon bwlimit=3MiB/s");
  EXPECT_TRUE(daemon.for_daemon);
  EXPECT_EQ(daemon.subject, "");
  EXPECT_EQ(daemon.change.bwlimit_bytes_per_second, 3 * kMiB);
}

TEST(CommandLine, UsageErrorsAreOneLineAndExitWithTwo) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "subcommand is required"},
      {"frob", "unknown command 'frob'"},
      {"serv vm1", "unknown command 'serv' (did you mean 'serve'?)"},
      {"stat", "(did you mean 'status'?)"},
      {"bitmap ad vm1 b", "(did you mean 'add'?)"},
      {"help frob", "every command"},
      {"--state-dir /s frob", "unknown command 'frob'"},
      {"bitmap frob vm1", "unknown command 'bitmap frob'"},
      {"vm1 migrate", "unknown command 'vm1'"},
      {"-o json status", "'-o' before the command"},
      {"serve", "DISK is required"},
      {"serve a/b --source /a", "invalid disk name"},
      {"serve vm1 --source gopher://x", "--source"},
      {"serve vm1 --create-size 1M", "--create-size needs --source"},
      {"serve vm1 --source /a --create-size 0", "'0' is no size"},
      {"serve vm1 --force-source", "--force-source needs --source"},
      {"serve vm1 --source /a --listen unix:@x", "abstract"},
      {"migrate vm1 --to /b -o wide", "'wide' is not one of: table, json, jsonl"},
      {"serve vm1 --source /a --listen fax:1", "--listen"},
      {"serve vm1 --source /a --loop fast", "--loop"},
      {"migrate vm1", "--to is required"},
      {"migrate vm1 --to /b --mode warp", "--mode"},
      {"migrate vm1 --to /b --bwlimit fast", "--bwlimit"},
      {"migrate vm1 --to /b --priority urgent", "--priority"},
      {"set vm1 priority=", "priority"},
      {"set vm1 priority=urgent", "priority"},
      {"set vm1", "nothing to set"},
      {"set", "JOB is required"},
      {"set --daemon", "nothing to set"},
      {"set vm1 bwlimit=0", "say none"},
      {"set vm1 max-downtime=0ms", "max-downtime"},
      {"set --daemon max-downtime=1s", "bwlimit=RATE can be set of the daemon"},
      {"migrate vm1 --to /b --bwlimit 0", "say none"},
      {"migrate vm1 --to /b --bwlimit 200", "is a unit missing"},
      {"migrate vm1 --to /b --bwlimit 1023B/s", "below 1KiB/s"},
      {"serve vm1 --source /a --create-size 8EiB", "--create-size"},
      {"serve vm1 --source null:8EiB", "--source"},
      {"serve vm1 --source /a --tls maybe", "--tls"},
      {"set --daemon priority=low", "daemon"},
      {"migrate vm1 --to /b --max-downtime 100", "--max-downtime"},
      {"migrate vm1 --to /b --granularity 5000", "granularity"},
      {"migrate vm1 --to /b --copy-depth 1k", "--copy-depth"},
      {"migrate vm1 --to /b --point-in-time --mode mirror", "mode snapshot"},
      {"migrate vm1 --to /b --point-in-time --verify full", "point in time"},
      {"migrate vm1 --to /b --wait --detach", "detach"},
      {"migrate vm1 --to /b --detach --timeout 1s", "--timeout"},
      {"set job-1 colour=red", "colour=red"},
      {"status -o xml", "xml"},
      {"ls things", "things"},
      {"verify /a", "B is required"},
      {"bitmap", "subcommand is required"},
      {"abort", "JOB is required"},
  };
  for (const auto& [text, says] : cases) {
    const auto outcome = parse_command_line(words(text));
    EXPECT_FALSE(outcome.command.has_value()) << text;
    EXPECT_EQ(outcome.exit_code, 2) << text;
    EXPECT_THAT(outcome.text, HasSubstr(says)) << text;
    EXPECT_EQ(outcome.text.find('\n'), std::string::npos) << text;
  }
}

TEST(CommandLine, AUsageErrorNamesTheHelpOfItsCommand) {
  const std::pair<const char*, const char*> cases[] = {
      {"migrate vm1 --to /b --frob", "see 'blockmig migrate --help'"},
      {"migrate vm1 --to /b --mode warp", "see 'blockmig migrate --help'"},
      {"bitmap add vm1", "see 'blockmig bitmap add --help'"},
      {"bitmap", "see 'blockmig bitmap --help'"},
      {"frob", "see 'blockmig --help'"},
  };
  for (const auto& [text, says] : cases) {
    EXPECT_THAT(parse_command_line(words(text)).text, EndsWith(says)) << text;
  }
  EXPECT_THAT(parse_daemon_command_line({"--frob"}).text, EndsWith("see 'blockmigd --help'"));
}

TEST(CommandLine, AnEmptyValueIsAMistake) {
  const std::vector<std::vector<std::string>> cases = {{"status", "--state-dir", ""},
                                                       {"status", "--state-dir="},
                                                       {"serve", "vm1", "--socket-mode", ""},
                                                       {"migrate", "vm1", "--to", ""},
                                                       {"migrate", "vm1", "--to", "/b", "-o", ""},
                                                       {"bitmap", "add", "vm1", ""}};
  for (const auto& words : cases) {
    EXPECT_EQ(parse_command_line(words).exit_code, 2) << words[1];
    EXPECT_FALSE(parse_command_line(words).command.has_value()) << words[1];
  }
  EXPECT_FALSE(parse_daemon_command_line({"--state-dir", ""}).command.has_value());
  EXPECT_FALSE(parse_daemon_command_line({"--socket-mode="}).command.has_value());
  const std::vector<std::string> fine = {"serve", "vm1", "--source", "/a", "--description", ""};
  EXPECT_TRUE(parse_command_line(fine).command.has_value());
}

TEST(CommandLine, HelpAndVersionAreNoErrors) {
  for (const char* text :
       {"--help", "serve --help", "migrate --help", "bitmap --help", "--version"}) {
    const auto outcome = parse_command_line(words(text));
    EXPECT_FALSE(outcome.command.has_value()) << text;
    EXPECT_EQ(outcome.exit_code, 0) << text;
    EXPECT_FALSE(outcome.text.empty()) << text;
  }
  EXPECT_THAT(parse_command_line({"migrate", "--help"}).text, HasSubstr("--max-downtime"));
  EXPECT_THAT(parse_command_line({"--help"}).text, HasSubstr("Exit codes"));
}

TEST(CommandLine, DaemonTakesItsOptions) {
  const auto outcome =
      parse_daemon_command_line(words("--state-dir /s --listen unix:/x --loop portable"));
  ASSERT_TRUE(outcome.command.has_value()) << outcome.text;
  EXPECT_EQ(outcome.command->state_dir, "/s");
  EXPECT_THAT(outcome.command->process.listen, ElementsAre("unix:/x"));
  EXPECT_EQ(outcome.command->process.loop, LoopKind::kPortable);
  EXPECT_EQ(parse_daemon_command_line(words("--loop fast")).exit_code, 2);
  EXPECT_EQ(parse_daemon_command_line(words("--log-level warning")).command->process.log_level,
            LogLevel::kWarning);
  EXPECT_EQ(parse_daemon_command_line(words("--log-level loud")).exit_code, 2);
  const auto metrics = parse_daemon_command_line(words("--metrics tcp:127.0.0.1:9464"));
  ASSERT_TRUE(metrics.command.has_value()) << metrics.text;
  EXPECT_EQ(metrics.command->process.metrics->port, 9464);
  EXPECT_EQ(parse_daemon_command_line(words("--metrics unix:/x")).exit_code, 2);
  EXPECT_EQ(parse_daemon_command_line(words("--help")).exit_code, 0);
}

}  // namespace
}  // namespace blockmig
