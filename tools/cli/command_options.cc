// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/command_options.h"

#include <CLI/CLI.hpp>
#include <variant>
#include <vector>

#include "tools/cli/help_text.h"

namespace blockmig {
namespace {

/// Where the option library puts what was typed for one row of the table.
CLI::Option* add_process_option(CLI::App& app, RawProcess& raw, const ProcessOption& option) {
  const std::string name = std::string("--") + option.name;
  if (const auto* flag = std::get_if<bool RawProcess::*>(&option.place)) {
    return app.add_flag(name, raw.**flag, option.help);
  }
  if (const auto* text = std::get_if<std::string RawProcess::*>(&option.place)) {
    return app.add_option(name, raw.**text, option.help)->type_name(option.type);
  }
  auto& list = raw.*std::get<std::vector<std::string> RawProcess::*>(option.place);
  return app.add_option(name, list, option.help)->type_name(option.type)->allow_extra_args(false);
}

/// What every copy of a disk in use can be asked.
void add_copying(CLI::App& app, RawOptions& raw) {
  app.add_option("--snapshot-buffer", raw.snapshot_buffer,
                 "mode snapshot: old content kept in memory at most (default: 64MiB)")
      ->type_name("SIZE");
  app.add_option("--bwlimit", raw.bwlimit, "at most this fast, from 1KiB/s (default: unlimited)")
      ->type_name("RATE");
  app.add_option("--priority", raw.priority,
                 "against the daemon's other jobs: low, normal or high (default: normal)")
      ->type_name("PRIORITY");
  app.add_option("--mirror-deadline", raw.mirror_deadline,
                 "longest that a write waits for the target, from its arrival (default: 50ms)")
      ->type_name("TIME");
  app.add_option("--max-guest-latency", raw.max_guest_latency,
                 "the copier gives way while the p99 of the guest's requests is above this "
                 "(default: it does not look)")
      ->type_name("TIME");
  app.add_option("--granularity", raw.granularity, "tracking, 4KiB to 1MiB (default: 64KiB)")
      ->type_name("SIZE");
  app.add_option("--copy-depth", raw.copy_depth, "copy requests in flight (default: 8)")
      ->type_name("N");
  app.add_option("--copy-size", raw.copy_size, "bytes of a copy request (default: 1MiB)")
      ->type_name("SIZE");
  app.add_option("--target-timeout", raw.target_timeout,
                 "silence of the target that counts as an error of it (default: 30s)")
      ->type_name("TIME");
  app.add_option("--on-target-error", raw.on_target_error,
                 "retry (then pause; at once when full or silent), pause or fail (default: retry)")
      ->type_name("ACTION");
  app.add_option("--retry-for", raw.retry_for,
                 "how long a failing target is tried before the job pauses (default: 1min)")
      ->type_name("TIME");
  app.add_option("--on-restart", raw.on_restart,
                 "when the daemon is killed and starts again: resume, pause or abort (default: "
                 "resume)")
      ->type_name("ACTION");
}

/// "auto, cold, … or return (default: mirror)".
std::string mode_help() {
  std::string text;
  for (const Mode mode : kMigrateModes) {
    const bool last = mode == kMigrateModes.back();
    text += std::string(text.empty() ? "" : last ? " or " : ", ") + std::string(to_string(mode));
  }
  return text + " (default: " + std::string(to_string(JobOptions{}.mode)) + ")";
}

void add_waiting(CLI::App& app, RawOptions& raw) {
  CLI::Option* wait = app.add_flag("--wait", raw.wait, "wait for the end (default)");
  app.add_flag("--detach", raw.detach, "return when the job has started")->excludes(wait);
  app.add_option("--timeout", raw.timeout, "stop waiting after this long; the job goes on")
      ->type_name("TIME");
}

}  // namespace

void refuse_empty_values(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const bool may_be_empty = option->get_name() == "--description";
    if (option->get_items_expected_max() == 0 || may_be_empty) continue;
    option->check([](const std::string& text) { return text.empty() ? "is empty" : ""; }, "");
  }
  for (CLI::App* command : app.get_subcommands({})) refuse_empty_values(*command);
}

void add_output(CLI::App& app, RawOptions& raw, const std::string& formats) {
  const auto is_known = [formats](const std::string& text) -> std::string {
    const bool known = (", " + formats + ",").find(", " + text + ",") != std::string::npos;
    return known ? "" : "'" + text + "' is not one of: " + formats;
  };
  app.add_option("-o,--output", raw.output, "output format: " + formats)
      ->type_name("FORMAT")
      ->check(is_known, "");
}

void add_process_options(CLI::App& app, RawOptions& raw, bool is_daemon) {
  for (const ProcessOption& option : process_options()) {
    if (option.daemon_only && !is_daemon) continue;
    add_process_option(app, raw.process, option)->group(is_daemon ? "Options" : "Daemon options");
  }
}

void add_serve(CLI::App& app, RawOptions& raw) {
  app.add_option("DISK", raw.subject, "name of the disk, which is its NBD export name")->required();
  app.add_option("--source", raw.source,
                 "store with the disk's content (default: where the journal says)")
      ->type_name("STORE");
  add_process_options(app, raw, false);
  app.add_flag("--read-only", raw.read_only, "refuse writes");
  app.add_option(
         "--cache", raw.cache,
         "files: buffered (page cache), map (page cache, mapped; on filesystems that may hang "
         "buffered) or direct (O_DIRECT)")
      ->type_name("MODE");
  app.add_option("--bitmap", raw.bitmaps,
                 "record changed chunks in a bitmap that clients can query; may be repeated")
      ->type_name("NAME[:GRANULARITY]")
      ->allow_extra_args(false);
  app.add_option("--description", raw.description, "text that clients see")->type_name("TEXT");
  app.add_option("--create-size", raw.create_size, "create the source file with this size")
      ->type_name("SIZE");
  app.add_flag("--force-source", raw.force_source,
               "use --source though the journal says that the disk lives elsewhere; what was "
               "written there is given up");
  app.add_flag("--foreground", raw.foreground,
               "with a running daemon: stay, and detach the disk when interrupted");
  app.footer(kServeFooter);
}

void add_migrate(CLI::App& app, RawOptions& raw) {
  app.add_option("DISK", raw.subject, "a disk of the daemon, or else a file to copy")->required();
  app.add_option("--to", raw.to,
                 "target store; a folder means the same file name in it (mode return: the one that "
                 "the disk has left)")
      ->type_name("STORE");
  app.add_option("--mode", raw.mode, mode_help())->type_name("MODE");
  app.add_option("--deadline", raw.deadline, "mode auto: how long the move should take")
      ->type_name("TIME");
  app.add_flag("--point-in-time", raw.point_in_time,
               "a consistent copy of this instant; the disk stays where it is (mode snapshot)");
  app.add_flag("--keep-record", raw.keep_record, kKeepRecordHelp);
  app.add_option("--max-downtime", raw.max_downtime,
                 "longest that the switchover may hold requests (default: 100ms)")
      ->type_name("TIME");
  app.add_option("--on-stall", raw.on_stall,
                 "when it does not converge: mirror, throttle, postcopy or fail (default: mirror, "
                 "of mode shared: throttle)")
      ->type_name("ACTION");
  app.add_option("--verify", raw.verify,
                 "none, digest (of every chunk copied) or full (read back; default: digest)")
      ->type_name("HOW");
  app.add_option("--reverse-mirror", raw.reverse_mirror,
                 "postcopy, hybrid: until the new store is whole, writes reach the old one too: on "
                 "or off (default: on)")
      ->type_name("on|off");
  app.add_option("--base-patience", raw.base_patience,
                 "postcopy, hybrid: longest that a request waits for the old store (default: 30s)")
      ->type_name("TIME");
  app.add_option("--checkpoint-interval", raw.checkpoint_interval,
                 "how often the progress is recorded, both stores flushed (default: 10s)")
      ->type_name("TIME");
  app.add_option("--hydrate", raw.hydrate,
                 "shared: data at rest is fetched in the background, on-demand (and kept) or never "
                 "(read through; default: on-demand)")
      ->type_name("WHEN");
  add_copying(app, raw);
  add_waiting(app, raw);
  add_output(app, raw, "table, json, jsonl");
  app.footer(kMigrateFooter);
}

void add_backup(CLI::App& app, RawOptions& raw) {
  app.add_option("DISK", raw.subject, "disk")->required();
  app.add_option("TARGET", raw.object,
                 "file to copy to, sparse; a folder means the same file name in it")
      ->required();
  app.add_option("--since", raw.since,
                 "only what this bitmap marks, applied to the copy that TARGET is")
      ->type_name("BITMAP");
  app.add_option("--bitmap", raw.begins, "a bitmap that begins with the copy, for the next --since")
      ->type_name("NAME[:GRANULARITY]");
  app.add_option("--on-stall", raw.on_stall,
                 "when the snapshot buffer is full: throttle the guest's writes, or fail")
      ->type_name("ACTION");
  app.add_option("--verify", raw.verify, "none or digest (of every chunk copied; default: digest)")
      ->type_name("HOW");
  add_copying(app, raw);
  add_waiting(app, raw);
  add_output(app, raw, "table, json, jsonl");
  app.footer(kBackupFooter);
}

void add_settle(CLI::App& app, RawOptions& raw) {
  app.add_option("DISK", raw.subject, "a disk that was moved with --mode shared")->required();
  app.add_option("--into", raw.to,
                 "the image that it fetches from, or its folder: the disk goes back there")
      ->type_name("STORE");
  app.add_option("--bwlimit", raw.bwlimit, "--into: at most this fast (default: unlimited)")
      ->type_name("RATE");
  app.add_option("--max-downtime", raw.max_downtime,
                 "--into: longest that the switchover may hold requests (default: 100ms)")
      ->type_name("TIME");
  app.add_option("--on-stall", raw.on_stall,
                 "--into: when the guest is too fast: throttle or fail (default: throttle)")
      ->type_name("ACTION");
  app.add_option("--verify", raw.verify,
                 "--into: none, digest (of every chunk copied) or full (the whole image is read "
                 "back; default: digest)")
      ->type_name("HOW");
  app.add_flag("--detach", raw.detach, "return when it has begun");
  app.add_option("--timeout", raw.timeout, "stop waiting after this long; it goes on")
      ->type_name("TIME");
  add_output(app, raw, "table, json, jsonl");
  app.footer(kSettleFooter);
}

}  // namespace blockmig
