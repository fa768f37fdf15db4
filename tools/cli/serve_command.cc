// SPDX-License-Identifier: Apache-2.0
// blockmig serve: adds a disk to the daemon of the state folder, or becomes that daemon.
#include <utility>

#include "tools/cli/commands.h"
#include "tools/cli/foreground_daemon.h"
#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

constexpr Duration kLookInterval = std::chrono::seconds(1);

void announce(const DiskView& disk, const std::string& by) {
  for (const std::string& uri : disk.uris) print("serving " + disk.name + " at " + uri + by + "\n");
}

Result<DiskView> add_disk(ControlHandler& daemon, const ServeRequest& request) {
  const Result<std::string> answer = ask(daemon, "POST", "/v1/disks", to_json(request));
  if (!answer) return answer.error();
  return disk_from_json(*answer);
}

/// Until a signal comes: then the disk is detached; or until the disk or its daemon has gone.
ExitCode stay(const std::string& disk, const CommandContext& context, StopSignals& signals) {
  ControlHandler& daemon = *context.daemon;
  while (!signals.wait_for(kLookInterval)) {
    const Result<std::string> there = ask(daemon, "GET", disk_path(disk));
    if (there.ok() || there.error().code() == ErrorCode::kTimedOut) continue;  // only slow
    // A daemon that takes the other's place may wait for stores.
    const bool nobody = there.error().code() == ErrorCode::kShutdown;
    if (nobody && state_dir_is_held(context.state_dir)) continue;
    return report(there.error().with_context("disk '" + disk + "' is no longer served"));
  }
  const Result<std::string> detached = ask(daemon, "DELETE", disk_path(disk));
  const bool gone = detached.ok() || detached.error().code() == ErrorCode::kNotFound;
  return gone ? ExitCode::kOk : report(detached.error());
}

ExitCode serve_in_running_daemon(const CommandLine& command, const CommandContext& context) {
  if (!command.process.fixed_at_start.empty()) {
    std::string options;
    for (const std::string& name : command.process.fixed_at_start) options += " " + name;
    return report(Error(ErrorCode::kInvalid, "the daemon of " + context.state_dir +
                                                 " runs already and has its own:" + options));
  }
  StopSignals signals;
  const Result<DiskView> disk = add_disk(*context.daemon, command.serve);
  if (!disk) return report(disk.error());
  announce(*disk, " (by the running daemon of " + context.state_dir + ")");
  if (!command.foreground) return ExitCode::kOk;
  return stay(disk->name, context, signals);
}

}  // namespace

ExitCode run_serve(const CommandLine& command, const CommandContext& context) {
  if (context.daemon_listens) return serve_in_running_daemon(command, context);
  StopSignals signals;
  const Result<DaemonOptions> options = daemon_options(command.process, context.state_dir);
  if (!options) return report(options.error());
  const auto daemon = ForegroundDaemon::start(*options, command.process.log);
  if (!daemon) return report(daemon.error());
  const Result<DiskView> disk = add_disk((*daemon)->control(), command.serve);
  if (!disk) return report(disk.error());
  const Status opened = (*daemon)->open_inherited();
  if (!opened) return report(opened.error());
  announce(*disk, "");
  const Status stopped = (*daemon)->run_until_stopped(signals);
  return stopped.ok() ? ExitCode::kOk : report(stopped.error());
}

}  // namespace blockmig
