// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/migrate_options.h"

#include <CLI/CLI.hpp>

#include "tools/cli/help_text.h"

namespace blockmig {

namespace {

/// What a move may cost the guest.
void add_limits(CLI::App& app, RawOptions& raw) {
  app.add_option("--bwlimit", raw.bwlimit, "at most this fast (default: unlimited)")
      ->type_name("RATE");
  app.add_option("--max-downtime", raw.max_downtime,
                 "longest that the switchover may hold requests (default: 100ms)")
      ->type_name("TIME");
  app.add_option("--mirror-deadline", raw.mirror_deadline,
                 "longest that a write waits for the target, from its arrival (default: 50ms)")
      ->type_name("TIME");
  app.add_option("--max-guest-latency", raw.max_guest_latency,
                 "the copier gives way while the p99 of the guest's requests is above this "
                 "(default: it does not look)")
      ->type_name("TIME");
}

}  // namespace

void add_migrate(CLI::App& app, RawOptions& raw) {
  app.add_option("DISK", raw.subject, "a disk of the daemon, or else a file to copy")->required();
  app.add_option("--to", raw.to, "target store; a folder means the same file name in it")
      ->type_name("STORE")
      ->required();
  app.add_option("--mode", raw.mode, kModeHelp)->type_name("MODE");
  app.add_option("--deadline", raw.deadline, "mode auto: how long the move should take")
      ->type_name("TIME");
  app.add_flag("--point-in-time", raw.point_in_time,
               "a consistent copy of this instant; the disk stays where it is (mode snapshot)");
  app.add_flag("--keep-record", raw.keep_record, kKeepRecordHelp);
  app.add_option("--snapshot-buffer", raw.snapshot_buffer,
                 "mode snapshot: old content kept in memory at most (default: 64MiB)")
      ->type_name("SIZE");
  add_limits(app, raw);
  app.add_option("--on-stall", raw.on_stall,
                 "when it does not converge: mirror, throttle, postcopy or fail (default: mirror)")
      ->type_name("ACTION");
  app.add_option("--verify", raw.verify,
                 "none, digest (of every chunk copied) or full (read back; default: digest)")
      ->type_name("HOW");
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
  app.add_option("--reverse-mirror", raw.reverse_mirror,
                 "postcopy, hybrid: until the new store is whole, writes reach the old one too: on "
                 "or off (default: on)")
      ->type_name("on|off");
  app.add_option("--base-patience", raw.base_patience,
                 "postcopy, hybrid: longest that a request waits for the old store (default: 30s)")
      ->type_name("TIME");
  app.add_option("--on-restart", raw.on_restart,
                 "when the daemon is killed and starts again: resume, pause or abort (default: "
                 "resume)")
      ->type_name("ACTION");
  app.add_option("--checkpoint-interval", raw.checkpoint_interval,
                 "how often the progress is recorded, both stores flushed (default: 10s)")
      ->type_name("TIME");
  app.add_option("--hydrate", raw.hydrate,
                 "shared: data at rest is fetched in the background, on-demand (and kept) or never "
                 "(read through; default: on-demand)")
      ->type_name("WHEN");
  CLI::Option* wait = app.add_flag("--wait", raw.wait, "wait for the end (default)");
  app.add_flag("--detach", raw.detach, "return when the job has started")->excludes(wait);
  app.add_option("--timeout", raw.timeout, "stop waiting after this long; the job goes on")
      ->type_name("TIME");
  app.add_option("-o,--output", raw.output, "output format: table, json")->type_name("FORMAT");
  app.footer(kMigrateFooter);
}

}  // namespace blockmig
