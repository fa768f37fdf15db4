// SPDX-License-Identifier: Apache-2.0
// The commands of blockmig. Each prints its result on stdout, its troubles as one line on stderr,
// and returns an exit code. CommandContext carries what they share. Thread rule: the main thread.
#pragma once

#include <string>

#include "tools/cli/command_line.h"
#include "tools/control/channel.h"
#include "tools/control/exit_code.h"
#include "tools/control/json.h"

namespace blockmig {

struct CommandContext {
  std::string state_dir;   ///< resolved
  ControlHandler* daemon;  ///< the daemon that commands talk to
  bool daemon_listens = false;
};

/// `blockmig: what happened` on stderr, and with -o json or jsonl {"error":{"code","message"}} on
/// stdout; the error's exit code.
ExitCode report(const Error& error);
/// Once a write has failed nothing more is printed, and the process ends with 1 and a message; with
/// 141, as if by SIGPIPE, where the reader has gone.
void print(const std::string& text);
/// True: who prints again and again may end.
bool output_is_lost();

/// The response's body, or its error.
Result<std::string> ask(ControlHandler& daemon, const std::string& method, const std::string& path,
                        const std::string& body = {});
std::string job_path(const std::string& job, const std::string& command = {});
std::string disk_path(const std::string& disk);

ExitCode run_serve(const CommandLine& command, const CommandContext& context);
ExitCode run_migrate(const CommandLine& command, const CommandContext& context);
/// The same job, into a file that knows what it is a copy of.
ExitCode run_backup(const CommandLine& command, const CommandContext& context);
ExitCode run_settle(const CommandLine& command, const CommandContext& context);
ExitCode run_verify(const CommandLine& command, const CommandContext& context);
ExitCode run_status(const CommandLine& command, const CommandContext& context);
ExitCode run_metrics(const CommandContext& context);
ExitCode run_list(const CommandLine& command, const CommandContext& context);
/// abort, pause, resume, set.
ExitCode run_job_command(const CommandLine& command, const CommandContext& context);
/// bitmap add, merge, rm, ls.
ExitCode run_bitmap(const CommandLine& command, const CommandContext& context);
/// manifest make, check, show.
ExitCode run_manifest(const CommandLine& command);
ExitCode run_force_own(const CommandLine& command);
/// disconnect, detach, stop.
ExitCode run_daemon_command(const CommandLine& command, const CommandContext& context);

/// Parses and runs one command line, without the program's name.
int run_blockmig(const std::vector<std::string>& arguments);
int run_blockmigd(const std::vector<std::string>& arguments);

}  // namespace blockmig
