// SPDX-License-Identifier: Apache-2.0
// blockmig abort, pause, resume, set, bitmap, disconnect, detach, stop.
#include "blockmig/base/units.h"
#include "tools/cli/commands.h"
#include "tools/cli/tables.h"

namespace blockmig {
namespace {

std::string state_text(const JobStatus& job) {
  return job.id + " of disk '" + job.disk + "' is " + std::string(to_string(job.state));
}

/// What the command has brought about. Aborting may go on after the daemon has answered.
std::string effect_text(Verb verb, const JobStatus& job) {
  if (verb == Verb::kAbort && !is_final(job.state)) {
    return job.id + " of disk '" + job.disk + "' is being aborted\n";
  }
  if (verb == Verb::kSet) {
    const std::uint64_t rate = job.bwlimit_bytes_per_second;
    const auto downtime = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double, std::milli>(job.max_downtime_ms));
    return state_text(job) + ", bwlimit " + (rate == 0 ? "none" : format_rate(rate)) +
           ", priority " + std::string(to_string(job.priority)) + ", max-downtime " +
           format_duration(downtime) + "\n";
  }
  return state_text(job) + "\n";
}

/// Prints `text` if the daemon agreed.
ExitCode settle(const Result<std::string>& answer, const std::string& text) {
  if (!answer) return report(answer.error());
  print(text + "\n");
  return ExitCode::kOk;
}

}  // namespace

ExitCode run_job_command(const CommandLine& command, const CommandContext& context) {
  if (command.verb == Verb::kSet && command.for_daemon) {
    const std::uint64_t rate = *command.change.bwlimit_bytes_per_second;
    return settle(ask(*context.daemon, "POST", "/v1/daemon/set", bwlimit_to_json(rate)),
                  rate == 0 ? "the daemon's jobs copy without a limit"
                            : "the daemon's jobs copy at most " + format_rate(rate) + " together");
  }
  const Status name = check_name("job or disk", command.subject);
  if (!name) return report(name.error());
  std::string verb = "abort";
  std::string body;
  if (command.verb == Verb::kPause) verb = "pause";
  if (command.verb == Verb::kResume) verb = "resume";
  if (command.verb == Verb::kSet) {
    verb = "set";
    body = to_json(command.change);
  }
  const Result<std::string> answer =
      ask(*context.daemon, "POST", job_path(command.subject, verb), body);
  if (!answer) return report(answer.error());
  const Result<JobStatus> job = job_from_json(*answer);
  if (!job) return report(job.error());
  print(effect_text(command.verb, *job));
  return ExitCode::kOk;
}

ExitCode run_bitmap(const CommandLine& command, const CommandContext& context) {
  ControlHandler& daemon = *context.daemon;
  const Status name = check_name("disk", command.subject);
  if (!name) return report(name.error());
  const std::string path = disk_path(command.subject) + "/bitmaps";
  if (command.verb == Verb::kBitmapAdd) {
    const BitmapSpec& bitmap = command.bitmap;
    return settle(ask(daemon, "POST", path, to_json(bitmap)),
                  "bitmap '" + bitmap.name +
                      (bitmap.recording ? "' records changes of disk '" : "' is there for disk '") +
                      command.subject +
                      (bitmap.persistent ? "', also over restarts" : "', until the daemon ends") +
                      ": clients see it as qemu:dirty-bitmap:" + bitmap.name);
  }
  if (command.verb == Verb::kBitmapRemove || command.verb == Verb::kBitmapMerge) {
    const Status bitmap = check_name("bitmap", command.object);
    if (!bitmap) return report(bitmap.error());
  }
  if (command.verb == Verb::kBitmapMerge) {
    return settle(
        ask(daemon, "POST", path + "/" + command.object + "/merge", to_json(command.merge)),
        "bitmap '" + command.object + "' of disk '" + command.subject + "' has their marks too");
  }
  if (command.verb == Verb::kBitmapRemove) {
    return settle(ask(daemon, "DELETE", path + "/" + command.object),
                  "bitmap '" + command.object + "' of disk '" + command.subject + "' is removed");
  }
  const Result<std::string> answer = ask(daemon, "GET", path);
  if (!answer) return report(answer.error());
  const Result<std::vector<BitmapView>> bitmaps = bitmaps_from_json(*answer);
  if (!bitmaps) return report(bitmaps.error());
  if (command.format == OutputFormat::kJsonLines) {
    for (const BitmapView& bitmap : *bitmaps) print(to_json(bitmap) + "\n");
  } else if (command.format == OutputFormat::kJson) {
    print(to_json(*bitmaps, JsonStyle::kPretty) + "\n");
  } else {
    print(bitmaps_table(*bitmaps));
  }
  return ExitCode::kOk;
}

ExitCode run_daemon_command(const CommandLine& command, const CommandContext& context) {
  ControlHandler& daemon = *context.daemon;
  if (command.verb == Verb::kStop) {
    return settle(ask(daemon, "POST", "/v1/stop"), "the daemon of " + context.state_dir + " stops");
  }
  const bool detach = command.verb == Verb::kDetach;
  if (!detach) {
    if (command.subject.find_first_not_of("0123456789") != std::string::npos) {
      return report(Error(ErrorCode::kInvalid, "'" + command.subject +
                                                   "' is no client's number: see 'blockmig ls "
                                                   "clients'"));
    }
    return settle(ask(daemon, "POST", "/v1/clients/" + command.subject + "/disconnect"),
                  "client " + command.subject + " is disconnected");
  }
  const Status name = check_name("disk", command.subject);
  if (!name) return report(name.error());
  const std::string path = disk_path(command.subject) + (command.forget ? "/record" : "");
  return settle(ask(daemon, "DELETE", path), "disk '" + command.subject + "' is detached" +
                                                 (command.forget ? " and forgotten" : ""));
}

}  // namespace blockmig
