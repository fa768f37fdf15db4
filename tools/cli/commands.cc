// SPDX-License-Identifier: Apache-2.0
// What the commands share, and main's body.
#include "tools/cli/commands.h"

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "nbdserver/limit_table.h"
#include "tools/cli/fd_store.h"
#include "tools/cli/foreground_daemon.h"
#include "tools/control/control_client.h"
#include "tools/control/printable_text.h"
#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

/// Of the first write to standard output that failed; 0: none has. Of the process, like that.
int output_errno = 0;
/// As the shell has it for who was ended by a signal.
constexpr int kEndedBySigpipe = 128 + SIGPIPE;

/// What is asked for at a place where nobody gets it has failed, whatever the daemon has done.
/// Where the reader has gone (`| head`) there is nothing to say.
int exit_code_with_output(int exit_code, const char* program) {
  if (output_errno == 0 || exit_code != 0) return exit_code;
  if (output_errno == EPIPE) return kEndedBySigpipe;
  const Error error = Error::from_errno(output_errno, "standard output");
  std::fprintf(stderr, "%s: %s\n", program, error.message().c_str());
  return static_cast<int>(ExitCode::kFailed);
}

/// What was asked for with -o, once that is known; of the process, like its standard output.
bool errors_are_json = false;

ExitCode report_as(const std::string& program, const Error& error) {
  std::fprintf(stderr, "%s: %s\n", program.c_str(), printable(error.message()).c_str());
  return exit_code_of(error);
}

ExitCode run_verb(const CommandLine& command, const CommandContext& context) {
  switch (command.verb) {
    case Verb::kServe:
      return run_serve(command, context);
    case Verb::kBackup:
      return run_backup(command, context);
    case Verb::kMigrate:
      return run_migrate(command, context);
    case Verb::kSettle:
      return run_settle(command, context);
    case Verb::kStatus:
      return run_status(command, context);
    case Verb::kMetrics:
      return run_metrics(context);
    case Verb::kList:
      return run_list(command, context);
    case Verb::kVerify:
      return run_verify(command, context);
    case Verb::kAbort:
    case Verb::kPause:
    case Verb::kResume:
    case Verb::kSet:
      return run_job_command(command, context);
    case Verb::kBitmapAdd:
    case Verb::kBitmapRemove:
    case Verb::kBitmapMerge:
    case Verb::kBitmapList:
      return run_bitmap(command, context);
    case Verb::kManifestMake:
    case Verb::kManifestCheck:
    case Verb::kManifestShow:
      return run_manifest(command);
    case Verb::kForceOwn:
      return run_force_own(command);
    case Verb::kDisconnect:
    case Verb::kDetach:
    case Verb::kStop:
      return run_daemon_command(command, context);
    case Verb::kVersion:
      print("blockmig " BLOCKMIG_VERSION "\n");
      return ExitCode::kOk;
    case Verb::kHelp:
      print(limits_text(NbdServerLimits{}));
      return ExitCode::kOk;
  }
  return ExitCode::kUsage;
}

/// `alone`: there was no daemon before that has left anything.
Result<std::unique_ptr<ForegroundDaemon>> start_daemon(const ProcessSettings& process,
                                                       const DaemonOptions& options, bool& alone) {
  alone = false;
  if (process.replace) {
    auto replaced = ForegroundDaemon::replace(options, process.log);
    const bool none = !replaced && replaced.error().code() == ErrorCode::kNotFound;
    if (!none) return replaced;
  }
  alone = options.stored.handover == nullptr;
  return ForegroundDaemon::start(options, process.log);
}

/// A handover brings disks as they are.
void warn_of_other_source(const DiskArgument& wanted, ControlHandler& daemon) {
  const Result<std::string> answer = ask(daemon, "GET", disk_path(wanted.name));
  const Result<DiskView> disk = answer.ok() ? disk_from_json(*answer) : answer.error();
  if (!disk.ok() || wanted.source.empty() || disk->store_uri == wanted.source) return;
  std::fprintf(stderr,
               "blockmigd: disk '%s' is served from %s, as by the daemon before, and not from %s: "
               "'blockmig migrate' moves it\n",
               wanted.name.c_str(), disk->store_uri.c_str(), wanted.source.c_str());
}

/// Adds the disks of the command line, and listens once they are there.
Status offer_disks(const ProcessSettings& process, ForegroundDaemon& daemon, bool alone) {
  std::vector<ServeRequest> disks;
  for (const DiskArgument& disk : process.disks) {
    ServeRequest request;
    request.disk = disk.name;
    request.source = disk.source;
    if (&disk == &process.disks.back()) request.listen = process.listen;  // as it is recorded
    Result<ServeRequest> checked = serve_request_from_json(to_json(request));
    if (!checked) return checked.error();
    disks.push_back(*std::move(checked));
    if (!alone) warn_of_other_source(disk, daemon.control());
  }
  return daemon.serve_wanted(disks, alone);
}

/// What -o says where the words as a whole were not understood.
bool wants_json(const std::vector<std::string>& arguments) {
  const auto is_json = [](std::string_view format) {
    return format == "json" || format == "jsonl";
  };
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view word = arguments[i];
    const bool next = (word == "-o" || word == "--output") && i + 1 < arguments.size();
    if (next && is_json(arguments[i + 1])) return true;
    for (const std::string_view prefix : {"-o=", "-o", "--output="}) {
      if (word.starts_with(prefix) && is_json(word.substr(prefix.size()))) return true;
    }
  }
  return false;
}

void print_usage_as_json(std::string text) {
  constexpr std::string_view kProgram = "blockmig: ";
  if (text.starts_with(kProgram)) text.erase(0, kProgram.size());
  print(error_response(Error(ErrorCode::kInvalid, text)).body + "\n");
}

/// Prints what takes a command's place: help on stdout, a usage error on stderr.
template <typename Command>
int print_outcome(const ParseOutcome<Command>& outcome, const char* program) {
  if (outcome.exit_code == 0) {
    print(outcome.text);
  } else {
    std::fprintf(stderr, "%s\n", outcome.text.c_str());
  }
  return exit_code_with_output(outcome.exit_code, program);
}

}  // namespace

ExitCode report(const Error& error) {
  if (errors_are_json) print(error_response(error).body + "\n");
  return report_as("blockmig", error);
}

void print(const std::string& text) {
  if (output_errno != 0) return;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) output_errno = errno != 0 ? errno : EIO;
}

bool output_is_lost() { return output_errno != 0; }

Result<std::string> ask(ControlHandler& daemon, const std::string& method, const std::string& path,
                        const std::string& body) {
  ControlResponse response = daemon.handle({method, path, body});
  if (!response.ok()) return error_from_response(response);
  return std::move(response.body);
}

std::string job_path(const std::string& job, const std::string& command) {
  return "/v1/jobs/" + job + (command.empty() ? "" : "/" + command);
}

std::string disk_path(const std::string& disk) { return "/v1/disks/" + disk; }

int run_blockmig(const std::vector<std::string>& arguments) {
  const ParseOutcome<CommandLine> parsed = parse_command_line(arguments);
  if (!parsed.command) {
    const bool failed = parsed.exit_code != 0;
    if (failed && wants_json(arguments)) print_usage_as_json(parsed.text);
    return print_outcome(parsed, "blockmig");
  }
  errors_are_json = parsed.command->format == OutputFormat::kJson ||
                    parsed.command->format == OutputFormat::kJsonLines;
  if (parsed.command->verb == Verb::kVersion || parsed.command->verb == Verb::kHelp) {
    const ExitCode printed = run_verb(*parsed.command, CommandContext{});
    return exit_code_with_output(static_cast<int>(printed), "blockmig");
  }
  const Result<std::string> state_dir =
      resolve_state_dir(parsed.command->state_dir, StateDirEnvironment::from_process());
  if (!state_dir) return static_cast<int>(report(state_dir.error()));
  ControlClient client(control_socket_path(*state_dir));
  const CommandContext context{*state_dir, &client, client.daemon_listens()};
  const int exit_code = static_cast<int>(run_verb(*parsed.command, context));
  // Who serves has done so, whoever has seen it.
  if (parsed.command->verb == Verb::kServe) return exit_code;
  return exit_code_with_output(exit_code, "blockmig");
}

int run_blockmigd(const std::vector<std::string>& arguments) {
  const ParseOutcome<DaemonCommandLine> parsed = parse_daemon_command_line(arguments);
  if (!parsed.command) return print_outcome(parsed, "blockmigd");
  const ProcessSettings& process = parsed.command->process;
  if (parsed.command->show_limits) {
    print(limits_text(process.limits));
    return exit_code_with_output(0, "blockmigd");
  }
  StopSignals signals(StopSignals::HangUp::kIgnored);
  const Result<std::string> state_dir =
      resolve_state_dir(parsed.command->state_dir, StateDirEnvironment::from_process());
  if (!state_dir) return static_cast<int>(report_as("blockmigd", state_dir.error()));
  Result<DaemonOptions> options = daemon_options(process, *state_dir);
  if (!options) return static_cast<int>(report_as("blockmigd", options.error()));
  // With disks of its own it listens when they are there; without, whoever comes finds none yet.
  if (process.disks.empty()) options->listen = process.listen;
  options->listen_besides = process.listen;
  // ForegroundDaemon clears it where the daemon before hands its disks over, or has stored them.
  options->restore = true;
  for (const auto& disk : process.disks) options->restore_except.push_back(disk.name);
  bool alone = true;
  const auto daemon = start_daemon(process, *options, alone);
  if (!daemon) return static_cast<int>(report_as("blockmigd", daemon.error()));
  const Status offered = offer_disks(process, **daemon, alone);
  if (!offered) {
    const int failed = static_cast<int>(report_as("blockmigd", offered.error()));
    // With the clients of the daemon before it goes on without that disk.
    if (alone) return failed;
  }
  const Status opened = (*daemon)->open_inherited();
  if (!opened) return static_cast<int>(report_as("blockmigd", opened.error()));
  const Status told = notify_service_manager("READY=1");
  if (!told) print("blockmigd: " + told.error().message() + "\n");
  print("blockmigd ready, state folder " + *state_dir + "\n");
  const Status stopped = (*daemon)->run_until_stopped(signals);
  return static_cast<int>(stopped.ok() ? ExitCode::kOk : exit_code_of(stopped.error()));
}

}  // namespace blockmig
