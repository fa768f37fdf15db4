// SPDX-License-Identifier: Apache-2.0
// blockmig migrate: asks the daemon to move a disk and watches; or, for a file that is no disk of a
// daemon, copies it with a private daemon in this process: the same engine, nothing configured.
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "blockmig/base/units.h"
#include "blockmig/base/uri.h"
#include "blockmig/journal/owner_file.h"
#include "blockmig/journal/owner_rules.h"
#include "tools/cli/commands.h"
#include "tools/cli/wait_for_job.h"
#include "tools/daemon/daemon.h"

namespace blockmig {
namespace {

bool is_json(const CommandLine& command) {
  return command.format == OutputFormat::kJson || command.format == OutputFormat::kJsonLines;
}

JsonStyle style_of(const CommandLine& command) {
  return command.format == OutputFormat::kJson ? JsonStyle::kPretty : JsonStyle::kCompact;
}

/// The final word on a job that has ended.
ExitCode conclude(const CommandLine& command, const JobStatus& job,
                  Outcome outcome = Outcome::kMoved) {
  if (is_json(command)) {
    print(to_json(job, style_of(command)) + "\n");
  } else if (job.state == JobState::kDone) {
    print(summary_text(job, outcome));
  }
  if (job.state == JobState::kDone) return ExitCode::kOk;
  std::string text = job.id + " " + std::string(to_string(job.state));
  if (job.error) text += ": " + job.error->message();
  if (job.state == JobState::kFailed && !job.verdict.empty()) text += " (" + job.verdict + ")";
  text += ": " + place_text(job);
  std::fprintf(stderr, "blockmig: %s\n", text.c_str());
  return exit_code_of(job);
}

Result<JobStatus> start_job(ControlHandler& daemon, const MigrateRequest& request) {
  const Result<std::string> answer = ask(daemon, "POST", "/v1/jobs", to_json(request));
  if (!answer) return answer.error();
  return job_from_json(*answer);
}

/// Waits for a job that the daemon has started, if that is wanted.
ExitCode follow_job(const CommandLine& command, ControlHandler& daemon, StopSignals& signals,
                    const Result<JobStatus>& job) {
  if (!job) return report(job.error());
  if (!command.wait) {
    print(is_json(command) ? to_json(*job, style_of(command)) + "\n"
                           : job->id + " started: see 'blockmig status " + job->id + "'\n");
    return ExitCode::kOk;
  }
  ProgressDisplay display(Terminal::of_stderr());
  const Result<WaitResult> waited = wait_for_job(daemon, *job, command.timeout, signals, display);
  if (!waited) return report(waited.error());
  const std::string where = ": see 'blockmig status " + job->id + "'";
  switch (waited->end) {
    case WaitEnd::kEnded:
      return conclude(command, waited->job);
    case WaitEnd::kTimedOut:
      if (is_json(command)) print(to_json(waited->job, style_of(command)) + "\n");
      std::fprintf(stderr, "blockmig: %s has not ended after %s; it goes on%s\n", job->id.c_str(),
                   format_duration(command.timeout).c_str(), where.c_str());
      return ExitCode::kNotConverged;
    case WaitEnd::kInterrupted:
      std::fprintf(stderr, "blockmig: interrupted; %s goes on%s\n", job->id.c_str(), where.c_str());
      return ExitCode::kInterrupted;
  }
  return ExitCode::kFailed;
}

/// Without --to a disk returns to the store that it has left.
Status find_way_back(ControlHandler& daemon, MigrateRequest& request) {
  if (!request.target.empty()) return {};
  const Result<std::string> answer = ask(daemon, "GET", disk_path(request.disk));
  if (!answer) return answer.error();
  const Result<DiskView> disk = disk_from_json(*answer);
  if (!disk) return disk.error();
  request.target = disk->return_to;
  if (!request.target.empty()) return {};
  return Error(ErrorCode::kPrecondition,
               "disk '" + request.disk + "' has no recorded way back" +
                   (disk->return_lost.empty() ? "" : ": " + disk->return_lost) +
                   ": name a store with --to and another mode");
}

ExitCode migrate_in_daemon(const CommandLine& command, ControlHandler& daemon) {
  StopSignals signals;
  MigrateRequest request = command.migrate;
  const Status way = find_way_back(daemon, request);
  if (!way) return report(way.error());
  const Result<JobStatus> job = start_job(daemon, request);
  return follow_job(command, daemon, signals, job);
}

/// A legal disk name that resembles the file's.
std::string disk_name_of(const std::string& path) {
  std::string name = std::filesystem::path(path).filename().string();
  if (name.size() > kMaxDiskNameBytes) name.resize(kMaxDiskNameBytes);
  return check_name("disk", name).ok() ? name : "image";
}

/// The file is served, so that its owner cannot begin meanwhile. A reader is let at an image whose
/// owner has not ended in order; but whether it is whole only that owner knows.
Status check_copyable(const StoreUri& source) {
  if (source.kind != StoreUri::Kind::kFile) return {};
  const auto stamp = read_stamp(source.path);
  if (!stamp) {
    const bool has_none = stamp.error().code() == ErrorCode::kNotSupported;
    return has_none ? Status() : Status(stamp.error());
  }
  if (!*stamp || (*stamp)->state == StampState::kReleased) return {};
  const std::string& disk = (*stamp)->disk;
  return Error(
      ErrorCode::kPrecondition,
      "image " + source.path + " " + describe_stamp(**stamp) +
          ": only the daemon knows whether it is whole: start that and use 'blockmig migrate " +
          disk + "', or end it in order with the disk whole ('blockmig settle " + disk +
          "'); where it is gone for good, see 'blockmig force-own'");
}

/// Copies a file with a daemon that nobody else sees. An interruption aborts: nobody would go on.
ExitCode copy_file(const CommandLine& command, const StoreUri& source) {
  const JobOptions& wanted = command.migrate.options;
  if (command.mode_given && wanted.mode == Mode::kShared &&
      wanted.hydrate != Hydrate::kBackground) {
    return report(Error(ErrorCode::kInvalid,
                        "a copy without a daemon cannot leave data at rest: with its end nobody "
                        "knows any more where the rest is: add --hydrate background, or serve " +
                            source.text + " as a disk and move that"));
  }
  if (!command.as_copy) return report(command.as_copy.error());
  StopSignals signals;
  Log log(LogForm::kSilent);
  DaemonOptions options;
  options.private_journal = true;
  const auto daemon = Daemon::start(options, log, [] {});
  if (!daemon) return report(daemon.error());
  ServeRequest serve;
  serve.disk = disk_name_of(source.path);
  serve.source = source.text;
  serve.read_only = true;
  const Result<std::string> served = ask(**daemon, "POST", "/v1/disks", to_json(serve));
  if (!served) return report(served.error());
  const Status copyable = check_copyable(source);
  if (!copyable) return report(copyable.error());
  MigrateRequest request = command.migrate;
  request.disk = serve.disk;
  if (!command.mode_given) request.options.mode = Mode::kCold;
  // Nobody else sees this daemon: a job that pauses there could not be resumed.
  if (!command.on_target_error_given) request.options.on_target_error = OnTargetError::kFail;
  const Result<JobStatus> job = start_job(**daemon, request);
  if (!job) return report(job.error());
  ProgressDisplay display(Terminal::of_stderr());
  Result<WaitResult> waited = wait_for_job(**daemon, *job, command.timeout, signals, display);
  if (waited.ok() && waited->end != WaitEnd::kEnded) {
    const bool timed_out = waited->end == WaitEnd::kTimedOut;
    const Result<std::string> aborted = ask(**daemon, "POST", job_path(job->id, "abort"));
    // It may have ended by itself in between.
    if (!aborted && aborted.error().code() != ErrorCode::kPrecondition) {
      return report(aborted.error());
    }
    waited = wait_for_job(**daemon, *job, Duration::zero(), signals, display);
    if (timed_out && waited.ok() && waited->job.state == JobState::kAborted) {
      std::fprintf(stderr, "blockmig: the copy had not ended after %s and was aborted\n",
                   format_duration(command.timeout).c_str());
      return ExitCode::kNotConverged;
    }
  }
  if (!waited) return report(waited.error());
  const Status stopped = (*daemon)->stop();
  if (!stopped) return report(stopped.error());
  return conclude(command, waited->job, Outcome::kCopied);
}

/// The file or URI that the name is, if it is one.
Result<StoreUri> file_named(const std::string& name) {
  Result<StoreUri> uri = parse_store_uri(name);
  if (!uri) return uri;
  struct stat facts {};
  if (uri->kind == StoreUri::Kind::kFile && stat(uri->path.c_str(), &facts) != 0) {
    return Error(ErrorCode::kNotFound, "there is neither a disk nor a file '" + name + "'");
  }
  return uri;
}

}  // namespace

ExitCode run_migrate(const CommandLine& command, const CommandContext& context) {
  const std::string& name = command.migrate.disk;
  const bool may_be_disk = check_name("disk", name).ok();
  if (may_be_disk && context.daemon_listens) {
    const Result<std::string> disk = ask(*context.daemon, "GET", disk_path(name));
    if (disk.ok()) return migrate_in_daemon(command, *context.daemon);
    if (disk.error().code() != ErrorCode::kNotFound) return report(disk.error());
    const Result<StoreUri> file = file_named(name);
    return file.ok() ? copy_file(command, *file) : report(disk.error());
  }
  const Result<StoreUri> file = file_named(name);
  if (file.ok()) return copy_file(command, *file);
  // No such file: then a disk was meant, and what is missing is its daemon.
  return may_be_disk ? migrate_in_daemon(command, *context.daemon) : report(file.error());
}

ExitCode run_backup(const CommandLine& command, const CommandContext& context) {
  return migrate_in_daemon(command, *context.daemon);
}

ExitCode run_settle(const CommandLine& command, const CommandContext& context) {
  if (!command.migrate.target.empty()) return migrate_in_daemon(command, *context.daemon);
  StopSignals signals;
  const Result<std::string> answer =
      ask(*context.daemon, "POST", disk_path(command.subject) + "/settle");
  if (!answer) return report(answer.error());
  return follow_job(command, *context.daemon, signals, job_from_json(*answer));
}

}  // namespace blockmig
