// SPDX-License-Identifier: Apache-2.0
// blockmig status, ls and metrics.
#include <unistd.h>

#include <cstdlib>
#include <string_view>
#include <utility>

#include "tools/cli/commands.h"
#include "tools/cli/tables.h"
#include "tools/cli/wait_for_job.h"

namespace blockmig {
namespace {

constexpr const char* kClearScreen = "\x1b[H\x1b[J";
constexpr Duration kWatchInterval = std::chrono::seconds(1);

bool is_wide(const CommandLine& command) { return command.format == OutputFormat::kWide; }

/// Prints `value` in the asked-for form; `text` for people.
template <typename Value>
void show(const CommandLine& command, const Value& value, const std::string& text) {
  switch (command.format) {
    case OutputFormat::kJson:
      print(to_json(value, JsonStyle::kPretty) + "\n");
      return;
    case OutputFormat::kJsonLines:
      print(to_json(value) + "\n");
      return;
    case OutputFormat::kTable:
    case OutputFormat::kWide:
      print(text);
      return;
  }
}

/// The same for a list; as JSON lines each entry has its own.
template <typename Value, typename Line>
void show_list(const CommandLine& command, const std::vector<Value>& values,
               const std::string& text, Line line) {
  if (command.format != OutputFormat::kJsonLines) return show(command, values, text);
  for (const Value& value : values) print(line(value) + "\n");
}

template <typename Value>
std::string json_line(const Value& value) {
  return to_json(value);
}

ExitCode show_overview(const CommandLine& command, ControlHandler& daemon) {
  const Result<std::string> answer = ask(daemon, "GET", "/v1/status");
  if (!answer) return report(answer.error());
  const Result<Overview> overview = overview_from_json(*answer);
  if (!overview) return report(overview.error());
  show(command, *overview, overview_text(*overview, is_wide(command)));
  return ExitCode::kOk;
}

/// On a terminal each look replaces the one before; elsewhere they follow each other.
bool redraws(const CommandLine& command) {
  const bool for_people = command.format == OutputFormat::kTable || is_wide(command);
  const char* terminal = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): nobody sets any
  const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  return for_people && !dumb && isatty(STDOUT_FILENO) == 1;
}

ExitCode watch_overview(const CommandLine& command, ControlHandler& daemon) {
  StopSignals signals;
  const bool redraw = redraws(command);
  for (;;) {
    if (redraw) print(kClearScreen);
    const ExitCode shown = show_overview(command, daemon);
    if (shown != ExitCode::kOk || output_is_lost()) return shown;
    if (signals.wait_for(kWatchInterval)) return ExitCode::kInterrupted;
    if (!redraw && (command.format == OutputFormat::kTable || is_wide(command))) print("\n");
  }
}

/// A line of JSON per change, until the job has ended.
ExitCode watch_as_lines(ControlHandler& daemon, JobStatus job) {
  StopSignals signals;
  std::string last;
  for (;;) {
    const std::string line = to_json(job);
    if (line != last) print(line + "\n");
    last = line;
    if (output_is_lost()) return ExitCode::kOk;
    if (is_final(job.state)) return exit_code_of(job);
    if (signals.wait_for(kWatchInterval)) return ExitCode::kInterrupted;
    const Result<std::string> answer = ask(daemon, "GET", job_path(job.id));
    if (!answer) return report(answer.error());
    const Result<JobStatus> seen = job_from_json(*answer);
    if (!seen) return report(seen.error());
    job = *seen;
  }
}

ExitCode watch_job(const CommandLine& command, ControlHandler& daemon, const JobStatus& job) {
  if (command.format == OutputFormat::kJsonLines) return watch_as_lines(daemon, job);
  StopSignals signals;
  ProgressDisplay display(Terminal::of_stderr());
  const Result<WaitResult> waited = wait_for_job(daemon, job, Duration::zero(), signals, display);
  if (!waited) return report(waited.error());
  show(command, waited->job, job_text(waited->job));
  if (waited->end == WaitEnd::kInterrupted) return ExitCode::kInterrupted;
  return exit_code_of(waited->job);
}

/// A disk that has never been migrated is shown as a disk.
ExitCode show_disk(const CommandLine& command, ControlHandler& daemon, const Error& no_job) {
  const Result<std::string> answer = ask(daemon, "GET", disk_path(command.subject));
  if (!answer) return report(no_job);
  const Result<DiskView> disk = disk_from_json(*answer);
  if (!disk) return report(disk.error());
  const std::string ops = ops_table(*disk);
  show(command, *disk, disk_text(*disk) + (ops.empty() ? "" : "\n" + ops));
  return ExitCode::kOk;
}

/// Of the job's disk, as it is now.
std::string disk_beside(ControlHandler& daemon, const JobStatus& job) {
  const Result<std::string> answer = ask(daemon, "GET", disk_path(job.disk));
  if (!answer) return "";  // it is not served any more
  const Result<DiskView> disk = disk_from_json(*answer);
  return disk.ok() ? lines_beside_job(*disk, job) : "";
}

std::string unserved_disks_of(ControlHandler& daemon) {
  const Result<std::string> answer = ask(daemon, "GET", "/v1/status");
  const Result<Overview> overview =
      answer ? overview_from_json(*answer) : Result<Overview>(answer.error());
  return overview ? unserved_lines(overview->daemon) : "";
}

}  // namespace

ExitCode run_status(const CommandLine& command, const CommandContext& context) {
  ControlHandler& daemon = *context.daemon;
  if (command.subject.empty()) {
    return command.watch ? watch_overview(command, daemon) : show_overview(command, daemon);
  }
  const Status name = check_name("job or disk", command.subject);
  if (!name) return report(name.error());
  const Result<std::string> answer = ask(daemon, "GET", job_path(command.subject));
  if (!answer) {
    const bool unknown = answer.error().code() == ErrorCode::kNotFound;
    return unknown ? show_disk(command, daemon, answer.error()) : report(answer.error());
  }
  const Result<JobStatus> job = job_from_json(*answer);
  if (!job) return report(job.error());
  if (command.watch) return watch_job(command, daemon, *job);
  show(command, *job, job_text(*job) + disk_beside(daemon, *job));
  return ExitCode::kOk;
}

ExitCode run_metrics(const CommandContext& context) {
  const Result<std::string> page = ask(*context.daemon, "GET", kMetricsPath);
  if (!page) return report(page.error());
  print(*page);
  return ExitCode::kOk;
}

ExitCode run_list(const CommandLine& command, const CommandContext& context) {
  ControlHandler& daemon = *context.daemon;
  switch (command.listed) {
    case Listed::kDisks: {
      const Result<std::string> answer = ask(daemon, "GET", "/v1/disks");
      if (!answer) return report(answer.error());
      const Result<std::vector<DiskView>> disks = disks_from_json(*answer);
      if (!disks) return report(disks.error());
      const std::string table =
          disks_table(*disks, is_wide(command)) + trouble_lines(*disks) + unserved_disks_of(daemon);
      show_list(command, *disks, table, json_line<DiskView>);
      return ExitCode::kOk;
    }
    case Listed::kJobs: {
      const Result<std::string> answer = ask(daemon, "GET", "/v1/jobs");
      if (!answer) return report(answer.error());
      const Result<std::vector<JobStatus>> jobs = jobs_from_json(*answer);
      if (!jobs) return report(jobs.error());
      show_list(command, *jobs, jobs_table(*jobs, is_wide(command)), json_line<JobStatus>);
      return ExitCode::kOk;
    }
    case Listed::kClients: {
      const Result<std::string> answer = ask(daemon, "GET", "/v1/clients");
      if (!answer) return report(answer.error());
      const Result<std::vector<ClientView>> clients = clients_from_json(*answer);
      if (!clients) return report(clients.error());
      show_list(command, *clients, clients_table(*clients, is_wide(command)),
                json_line<ClientView>);
      return ExitCode::kOk;
    }
  }
  return ExitCode::kUsage;
}

}  // namespace blockmig
