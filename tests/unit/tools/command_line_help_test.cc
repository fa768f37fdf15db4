// SPDX-License-Identifier: Apache-2.0
// What the command line says about itself, and about what it would ignore.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tools/cli/command_line.h"

namespace blockmig {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

TEST(CommandLine, HelpShowsThePageOfACommand) {
  for (const char* command : {"migrate", "status", "bitmap", "bitmap add", "set", "help"}) {
    const auto shown = parse_command_line(words(std::string("help ") + command));
    EXPECT_EQ(shown.exit_code, 0) << command;
    EXPECT_EQ(shown.text, parse_command_line(words(std::string(command) + " --help")).text);
  }
  EXPECT_EQ(parse_command_line({"help"}).text, parse_command_line({"--help"}).text);
  EXPECT_TRUE(parse_command_line({"help", "limits"}).command.has_value());
}

TEST(CommandLine, EveryPageEndsWithItsOwnExamples) {
  for (const char* command :
       {"serve",     "migrate",    "settle", "backup", "status",  "ls",     "metrics",
        "verify",    "abort",      "pause",  "resume", "set",     "bitmap", "manifest",
        "force-own", "disconnect", "detach", "stop",   "version", "help"}) {
    const std::string page = parse_command_line({command, "--help"}).text;
    EXPECT_THAT(page, Not(HasSubstr("Try it, nothing to configure"))) << command;
  }
}

TEST(CommandLine, WhatACopyWithoutADaemonIgnoresIsSaid) {
  const std::pair<const char*, const char*> cases[] = {
      {"--detach", "--detach"},
      {"--on-stall fail", "--on-stall has no effect"},
      {"--mirror-deadline 1s", "--mirror-deadline has no effect"},
      {"--retry-for 1s", "--retry-for has no effect"},
  };
  for (const auto& [options, says] : cases) {
    const auto parsed = parse_command_line(words(std::string("migrate a --to /b ") + options));
    ASSERT_TRUE(parsed.command.has_value()) << "a disk of a daemon may have it: " << parsed.text;
    ASSERT_FALSE(parsed.command->as_copy.ok()) << options;
    EXPECT_THAT(parsed.command->as_copy.error().message(), HasSubstr(says));
  }
  for (const char* options :
       {"", "--mode dbt --on-stall fail", "--mode mirror --mirror-deadline 1s",
        "--on-target-error retry --retry-for 1s"}) {
    const auto parsed = parse_command_line(words(std::string("migrate a --to /b ") + options));
    ASSERT_TRUE(parsed.command.has_value()) << parsed.text;
    EXPECT_TRUE(parsed.command->as_copy.ok()) << options;
  }
}

TEST(CommandLine, TheHelpAndTheErrorHaveEveryModeThatMigrateTakes) {
  const std::string help = parse_command_line({"migrate", "--help"}).text;
  const std::string error = parse_command_line(words("migrate vm1 --to /b --mode warp")).text;
  for (const Mode mode : kMigrateModes) {
    const std::string name(to_string(mode));
    EXPECT_THAT(help, HasSubstr("\n  " + name + " ")) << "what it does";
    EXPECT_THAT(error, HasSubstr(name));
  }
  EXPECT_THAT(help, HasSubstr("auto, cold, snapshot, dbt, mirror, postcopy, hybrid, shared or"));
  EXPECT_THAT(error, Not(HasSubstr("settle"))) << "a command of its own";
}

}  // namespace
}  // namespace blockmig
