// SPDX-License-Identifier: Apache-2.0
// sim: runs the engine under seeds.
//
// Many runs, the first failing seed ends them: sim --seeds N [--first S] [--mode M]
// One run, telling its story: sim --seed S --verbose
// A planted bug must be found: sim --bug NAME --seeds N --expect-found
// The daemon's death at every await of a seed: sim --sweep --mode M [--seeds N] [--stride K]
// Each run twice, with equal traces: sim --twice
// The bugs: sim --list-bugs
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "hydration_world.h"
#include "planted_bugs.h"
#include "settle_world.h"
#include "sweep.h"
#include "twins_world.h"
#include "world.h"

namespace {

using blockmig::PlantedBug;
using blockmig::sim::HydrationWorld;
using blockmig::sim::NamedBug;
using blockmig::sim::RunOptions;
using blockmig::sim::RunResult;
using blockmig::sim::SettleWorld;
using blockmig::sim::SweepPlan;
using blockmig::sim::SweepResult;
using blockmig::sim::TwinsWorld;
using blockmig::sim::World;

/// A check of the engine's own that fails under a planted bug has found it.
void found_by_a_check(int) {
  constexpr char kText[] = "planted bug found by the engine's own check\n";
  (void)!::write(STDOUT_FILENO, kText, sizeof kText - 1);
  ::_exit(0);
}

struct Arguments {
  RunOptions run;
  std::uint64_t first = 1;
  std::uint64_t seeds = 1;
  std::string bug = "none";
  std::string mode = "any";
  bool hydration = false;
  bool settling = false;
  bool twins = false;
  bool expect_found = false;
  bool twice = false;
  bool sweeps = false;
  std::uint64_t stride = 1;
};

constexpr const char* kUsage =
    "usage: sim [--seed S | --first S --seeds N] [--mode M] [--verify V] [--twice] [--verbose]\n"
    "           [--bug B [--expect-found]] [--sweep [--stride K] | --crash-at E [--power-loss]]\n"
    "       sim --list-bugs | --help\n";
constexpr const char* kHelp =
    "  --seed S               this seed; with --verbose it tells its story\n"
    "  --first S, --seeds N   N seeds from S on (each 1 by default), until one fails\n"
    "  --mode M               any (default), a mode of migrate, or a world: bitmaps, return,\n"
    "                         journal, restarts, source, overlay, backup, hydration,\n"
    "                         settle, twins\n"
    "  --verify V             none, digest or full (default: as the seed draws it)\n"
    "  --twice                each seed twice, with equal traces\n"
    "  --sweep                a short move of each seed, and again for each event of its loop: "
    "the\n"
    "                         daemon dies after that, by a kill and by a power loss; any, a mode,\n"
    "                         return, backup, bitmaps or settle\n"
    "  --stride K             only every K-th event\n"
    "  --crash-at E           one run of a sweep: it dies after event E\n"
    "  --power-loss           and that is a power loss\n"
    "  --bug B                plants this bug; with --expect-found it must be found\n"
    "  --list-bugs            the bugs, each with the arguments that it takes to find it\n";

[[noreturn]] void usage(const std::string& problem) {
  std::fprintf(stderr, "sim: %s\n%s", problem.c_str(), kUsage);
  std::exit(2);
}

[[noreturn]] void list_bugs() {
  for (const NamedBug& bug : blockmig::sim::kBugs) std::printf("%s %s\n", bug.name, bug.arguments);
  std::exit(0);
}

PlantedBug bug_named(const std::string& name) {
  if (name == "none") return PlantedBug::kNone;
  for (const NamedBug& bug : blockmig::sim::kBugs) {
    if (name == bug.name) return bug.bug;
  }
  usage("no planted bug '" + name + "': see --list-bugs");
}

Arguments parse(int count, char** words) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= count) usage(word + " needs a value");
      return words[++i];
    };
    if (word == "--seed" || word == "--first") {
      arguments.first = std::stoull(value());
    } else if (word == "--seeds") {
      arguments.seeds = std::stoull(value());
    } else if (word == "--mode") {
      arguments.mode = value();
      arguments.hydration = arguments.mode == "hydration";
      arguments.settling = arguments.mode == "settle";
      arguments.twins = arguments.mode == "twins";
      arguments.run.bitmaps = arguments.mode == "bitmaps";
      arguments.run.returns = arguments.mode == "return";
      arguments.run.journal_fails = arguments.mode == "journal";
      arguments.run.restarts = arguments.mode == "restarts";
      arguments.run.source_fails = arguments.mode == "source";
      arguments.run.overlays = arguments.mode == "overlay";
      arguments.run.backups = arguments.mode == "backup";
      const bool special =
          arguments.hydration || arguments.settling || arguments.twins || arguments.run.bitmaps ||
          arguments.run.returns || arguments.run.journal_fails || arguments.run.restarts ||
          arguments.run.source_fails || arguments.run.overlays || arguments.run.backups;
      if (arguments.mode != "any" && !special) {
        const auto mode = blockmig::parse_mode(arguments.mode);
        if (!mode.ok()) usage(mode.error().message());
        arguments.run.mode = *mode;
      }
    } else if (word == "--verify") {
      const auto verify = blockmig::parse_verify(value());
      if (!verify.ok()) usage(verify.error().message());
      arguments.run.verify = *verify;
    } else if (word == "--bug") {
      arguments.bug = value();
      blockmig::planted_bug = bug_named(arguments.bug);
    } else if (word == "--list-bugs") {
      list_bugs();
    } else if (word == "--help" || word == "-h") {
      std::printf("%s%s", kUsage, kHelp);
      std::exit(0);
    } else if (word == "--expect-found") {
      arguments.expect_found = true;
    } else if (word == "--sweep") {
      arguments.sweeps = true;
    } else if (word == "--stride") {
      arguments.stride = std::stoull(value());
      if (arguments.stride == 0) usage("--stride 0");
    } else if (word == "--crash-at") {
      arguments.run.sweep = true;
      arguments.run.crash_at = std::stoull(value());
    } else if (word == "--power-loss") {
      arguments.run.power_loss = true;
    } else if (word == "--twice") {
      arguments.twice = true;
    } else if (word == "--verbose") {
      arguments.run.verbose = true;
    } else {
      usage("unknown argument " + word);
    }
  }
  return arguments;
}

/// A run that found something leaves suspended tasks that refer to its world: it is not destroyed.
template <typename AnyWorld>
RunResult run_world(const RunOptions& options) {
  auto world = std::make_unique<AnyWorld>(options);
  RunResult result = world->run();
  if (!result.violation.empty()) static_cast<void>(world.release());
  return result;
}

RunResult run_once(const Arguments& arguments, const RunOptions& run) {
  if (arguments.twins) return run_world<TwinsWorld>(run);
  if (arguments.settling) return run_world<SettleWorld>(run);
  return arguments.hydration ? run_world<HydrationWorld>(run) : run_world<World>(run);
}

unsigned long long number(std::uint64_t value) { return value; }

void print_replay(const char* program, const Arguments& arguments, const RunOptions& run) {
  const std::string level = run.verify ? " --verify " + std::string(to_string(*run.verify)) : "";
  std::string death;
  if (run.sweep) death = " --crash-at " + std::to_string(run.crash_at);
  if (run.sweep && run.power_loss) death += " --power-loss";
  std::printf("replay: %s --seed %llu --mode %s%s%s --bug %s --verbose\n", program,
              number(run.seed), arguments.mode.c_str(), level.c_str(), death.c_str(),
              arguments.bug.c_str());
}

int run_sweep(const char* program, const Arguments& arguments) {
  const SweepPlan plan{arguments.first, arguments.seeds, arguments.stride};
  const SweepResult result = blockmig::sim::sweep(
      plan, arguments.run,
      [&arguments](const RunOptions& run) { return run_once(arguments, run); });
  if (!result.violation.empty()) {
    const RunOptions& run = result.failed;
    std::printf("seed %llu, %s after event %llu: %s\n", number(run.seed),
                run.power_loss ? "a power loss" : "a kill", number(run.crash_at),
                result.violation.c_str());
    print_replay(program, arguments, run);
  }
  std::printf(
      "%s%llu seeds, %llu events, %llu with a daemon to die; %llu runs, %llu moves done, %llu "
      "resumed, %llu of them from a record\n",
      result.violation.empty() ? "no violation; " : "", number(plan.seeds), number(result.events),
      number(result.points), number(result.runs), number(result.jobs_done), number(result.resumed),
      number(result.recovered));
  if (arguments.expect_found) {
    std::printf("planted bug %s was %s\n", arguments.bug.c_str(),
                result.violation.empty() ? "NOT found" : "found");
  }
  return result.violation.empty() == arguments.expect_found ? 1 : 0;
}

}  // namespace

int main(int count, char** words) {
  Arguments arguments = parse(count, words);
  if (arguments.expect_found) std::signal(SIGABRT, found_by_a_check);
  if (arguments.sweeps) return run_sweep(words[0], arguments);
  std::uint64_t requests = 0;
  std::uint64_t done = 0;
  std::uint64_t not_done = 0;
  std::uint64_t generations = 0;
  std::uint64_t crashes = 0;
  std::uint64_t ends = 0;
  std::uint64_t resumed = 0;
  std::uint64_t recovered = 0;
  std::uint64_t returns = 0;
  std::uint64_t incrementals = 0;
  for (std::uint64_t seed = arguments.first; seed < arguments.first + arguments.seeds; ++seed) {
    arguments.run.seed = seed;
    // With a bitmap there is a second log that must outlive the journal.
    if (arguments.run.journal_fails) arguments.run.bitmaps = seed % 2 == 0;
    RunResult result = run_once(arguments, arguments.run);
    if (arguments.twice && run_once(arguments, arguments.run).trace_hash != result.trace_hash) {
      result.violation = "two runs of one seed differ: something is not simulated";
    }
    requests += result.guest_requests;
    done += result.jobs_done;
    not_done += result.jobs_not_done;
    generations += result.generations;
    crashes += result.crashes;
    ends += result.ends;
    resumed += result.resumed;
    recovered += result.recovered;
    returns += result.returns;
    incrementals += result.incrementals;
    if (result.violation.empty()) continue;
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), result.violation.c_str());
    print_replay(words[0], arguments, arguments.run);
    if (!arguments.expect_found) return 1;
    std::printf("planted bug %s found after %llu seeds\n", arguments.bug.c_str(),
                static_cast<unsigned long long>(seed - arguments.first + 1));
    return 0;
  }
  if (arguments.expect_found) {
    std::printf("planted bug %s was NOT found in %llu seeds\n", arguments.bug.c_str(),
                static_cast<unsigned long long>(arguments.seeds));
    return 1;
  }
  std::printf(
      "%llu seeds: no violation; %llu guest requests, %llu moves done, %llu ended otherwise, "
      "%llu points in time checked, %llu crashes, %llu ends in order, %llu moves resumed, %llu of "
      "them from a record, %llu moves back, %llu backups since a bitmap\n",
      static_cast<unsigned long long>(arguments.seeds), static_cast<unsigned long long>(requests),
      static_cast<unsigned long long>(done), static_cast<unsigned long long>(not_done),
      static_cast<unsigned long long>(generations), static_cast<unsigned long long>(crashes),
      static_cast<unsigned long long>(ends), static_cast<unsigned long long>(resumed),
      static_cast<unsigned long long>(recovered), static_cast<unsigned long long>(returns),
      static_cast<unsigned long long>(incrementals));
  if (arguments.run.backups && arguments.seeds >= 100 && incrementals * 4 < arguments.seeds)
    return 1;
  if (arguments.run.returns && arguments.seeds >= 100 && returns * 4 < arguments.seeds) return 1;
  // A campaign in which nothing moved would prove nothing.
  return arguments.seeds >= 100 && done * 4 < arguments.seeds ? 1 : 0;
}
