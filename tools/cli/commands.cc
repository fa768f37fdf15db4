// SPDX-License-Identifier: Apache-2.0
// What the commands share, and main's body.
#include "tools/cli/commands.h"

#include <cstdio>

#include "tools/cli/foreground_daemon.h"
#include "tools/control/control_client.h"
#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

ExitCode report_as(const std::string& program, const Error& error) {
  std::string line = error.message();
  for (char& c : line) {
    // One line, and nothing that a terminal would obey.
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  std::fprintf(stderr, "%s: %s\n", program.c_str(), line.c_str());
  return exit_code_of(error);
}

ExitCode run_verb(const CommandLine& command, const CommandContext& context) {
  switch (command.verb) {
    case Verb::kServe:
      return run_serve(command, context);
    case Verb::kMigrate:
      return run_migrate(command, context);
    case Verb::kStatus:
      return run_status(command, context);
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
    case Verb::kBitmapList:
      return run_bitmap(command, context);
    case Verb::kDisconnect:
    case Verb::kDetach:
    case Verb::kStop:
      return run_daemon_command(command, context);
    case Verb::kVersion:
      print("blockmig " BLOCKMIG_VERSION "\n");
      return ExitCode::kOk;
  }
  return ExitCode::kUsage;
}

/// Prints what takes a command's place: help on stdout, a usage error on stderr.
template <typename Command>
int print_outcome(const ParseOutcome<Command>& outcome) {
  if (outcome.exit_code == 0) {
    print(outcome.text);
  } else {
    std::fprintf(stderr, "%s\n", outcome.text.c_str());
  }
  return outcome.exit_code;
}

}  // namespace

ExitCode report(const Error& error) { return report_as("blockmig", error); }

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

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
  if (!parsed.command) return print_outcome(parsed);
  if (parsed.command->verb == Verb::kVersion) {
    return static_cast<int>(run_verb(*parsed.command, CommandContext{}));
  }
  const Result<std::string> state_dir =
      resolve_state_dir(parsed.command->state_dir, StateDirEnvironment::from_process());
  if (!state_dir) return static_cast<int>(report(state_dir.error()));
  ControlClient client(control_socket_path(*state_dir));
  const CommandContext context{*state_dir, &client, client.daemon_listens()};
  return static_cast<int>(run_verb(*parsed.command, context));
}

int run_blockmigd(const std::vector<std::string>& arguments) {
  const ParseOutcome<DaemonCommandLine> parsed = parse_daemon_command_line(arguments);
  if (!parsed.command) return print_outcome(parsed);
  StopSignals signals;
  const Result<std::string> state_dir =
      resolve_state_dir(parsed.command->state_dir, StateDirEnvironment::from_process());
  if (!state_dir) return static_cast<int>(report_as("blockmigd", state_dir.error()));
  DaemonOptions options;
  options.state_dir = *state_dir;
  options.listen = parsed.command->listen;
  options.loop = parsed.command->loop;
  const auto daemon = ForegroundDaemon::start(options, parsed.command->log);
  if (!daemon) return static_cast<int>(report_as("blockmigd", daemon.error()));
  print("blockmigd ready, state folder " + *state_dir + "\n");
  const Status stopped = (*daemon)->run_until_stopped(signals);
  return static_cast<int>(stopped.ok() ? ExitCode::kOk : exit_code_of(stopped.error()));
}

}  // namespace blockmig
