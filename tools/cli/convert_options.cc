// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <string_view>
#include <utility>

#include "blockmig/base/uri.h"
#include "tools/cli/config_file.h"
#include "tools/cli/option_values.h"
#include "tools/cli/raw_options.h"

namespace blockmig {
namespace {

/// Of what an offset in a file can be.
constexpr std::uint64_t kLargestDisk = std::numeric_limits<std::int64_t>::max();

Result<OutputFormat> parse_format(const std::string& text) {
  return parse_choice<OutputFormat>(text, {{"table", OutputFormat::kTable},
                                           {"wide", OutputFormat::kWide},
                                           {"json", OutputFormat::kJson},
                                           {"jsonl", OutputFormat::kJsonLines}});
}
Result<CacheMode> parse_cache(const std::string& text) {
  return parse_choice<CacheMode>(text, {{"buffered", CacheMode::kBuffered},
                                        {"direct", CacheMode::kDirect},
                                        {"map", CacheMode::kMap}});
}
Result<Listed> parse_listed(const std::string& text) {
  return parse_choice<Listed>(
      text, {{"disks", Listed::kDisks}, {"jobs", Listed::kJobs}, {"clients", Listed::kClients}});
}

Result<std::string> parse_uri(const std::string& text) {
  const Result<StoreUri> uri = parse_store_uri(text);
  if (!uri) return uri.error();
  return uri->text;
}

Status convert_serve(const RawOptions& raw, CommandLine& command) {
  ServeRequest& serve = command.serve;
  serve.disk = raw.subject;
  Status status = check_name("disk", serve.disk);
  take(status, "--source", raw.source, serve.source, parse_uri);
  take(status, "--cache", raw.cache, serve.cache, parse_cache);
  take(status, "--create-size", raw.create_size, serve.create_size_bytes, parse_size);
  for (const std::string& text : raw.bitmaps) {
    BitmapSpec bitmap;
    take(status, "--bitmap", text, bitmap, parse_bitmap_spec);
    serve.bitmaps.push_back(std::move(bitmap));
  }
  serve.read_only = raw.read_only;
  serve.description = raw.description;
  serve.force_source = raw.force_source;
  if (!status) return status;
  if (!raw.create_size.empty() && serve.create_size_bytes == 0) {
    return usage("--create-size: '" + raw.create_size + "' is no size of a disk");
  }
  if (serve.create_size_bytes > kLargestDisk) {
    return usage("--create-size: '" + raw.create_size + "' is not below 8EiB, as a disk must be");
  }
  if (serve.create_size_bytes != 0 && serve.source.empty()) {
    return usage("--create-size needs --source: the file to create");
  }
  if (serve.force_source && serve.source.empty()) {
    return usage("--force-source needs --source: the store to use");
  }
  if (serve.read_only && serve.create_size_bytes != 0) {
    return usage("--create-size and --read-only exclude each other");
  }
  const Result<ProcessSettings> process = convert_process(raw.process);
  if (!process) return process.error();
  command.process = *process;
  serve.listen = process->listen;
  return {};
}

Result<bool> parse_on_off(const std::string& text) {
  if (text == "on" || text == "off") return text == "on";
  return Error(ErrorCode::kInvalid, "'" + text + "' is neither on nor off");
}

Status convert_migrate(const RawOptions& raw, CommandLine& command) {
  MigrateRequest& migrate = command.migrate;
  JobOptions& options = migrate.options;
  migrate.disk = raw.subject;
  Status status;
  if (raw.to.empty() && raw.mode != to_string(Mode::kReturn)) {
    return usage("--to is required: the store to move to");
  }
  take(status, "--to", raw.to, migrate.target, parse_uri);
  take(status, "--mode", raw.mode, options.mode, parse_mode);
  take(status, "--on-stall", raw.on_stall, options.on_stall, parse_on_stall);
  take(status, "--verify", raw.verify, options.verify, parse_verify);
  take(status, "--bwlimit", raw.bwlimit, options.bwlimit_bytes_per_second, parse_limit);
  take(status, "--priority", raw.priority, options.priority, parse_priority);
  take(status, "--deadline", raw.deadline, options.deadline, parse_duration);
  take(status, "--snapshot-buffer", raw.snapshot_buffer, options.snapshot_buffer_bytes, parse_size);
  take(status, "--max-downtime", raw.max_downtime, options.max_downtime, parse_duration);
  take(status, "--mirror-deadline", raw.mirror_deadline, options.mirror_deadline, parse_duration);
  take(status, "--max-guest-latency", raw.max_guest_latency, options.max_guest_latency,
       parse_duration);
  take(status, "--target-timeout", raw.target_timeout, options.target_timeout, parse_duration);
  take(status, "--reverse-mirror", raw.reverse_mirror, options.reverse_mirror, parse_on_off);
  take(status, "--base-patience", raw.base_patience, options.base_patience, parse_duration);
  take(status, "--on-target-error", raw.on_target_error, options.on_target_error,
       parse_on_target_error);
  take(status, "--retry-for", raw.retry_for, options.retry_for, parse_duration);
  take(status, "--on-restart", raw.on_restart, options.on_restart, parse_on_restart);
  take(status, "--checkpoint-interval", raw.checkpoint_interval, options.checkpoint_interval,
       parse_duration);
  take(status, "--granularity", raw.granularity, options.granularity_bytes, parse_size_32);
  take(status, "--copy-depth", raw.copy_depth, options.copy_depth, parse_count);
  take(status, "--copy-size", raw.copy_size, options.copy_request_bytes, parse_size_32);
  take(status, "--hydrate", raw.hydrate, options.hydrate, parse_hydrate);
  take(status, "--timeout", raw.timeout, command.timeout, parse_duration);
  if (!status) return status;
  // The window bounds memory, not parallelism: it follows what was asked for.
  const std::uint64_t wanted = std::uint64_t{options.copy_depth} * options.copy_request_bytes;
  if (wanted > options.copy_window_bytes) options.copy_window_bytes = wanted;
  options.point_in_time = raw.point_in_time;
  options.keep_record = raw.keep_record;
  if (raw.point_in_time && raw.mode.empty()) options.mode = Mode::kSnapshot;
  command.mode_given = !raw.mode.empty() || raw.point_in_time;
  command.on_target_error_given = !raw.on_target_error.empty();
  command.as_copy = check_copy_effect(raw);
  command.wait = !raw.detach;
  if (!command.wait && command.timeout.count() != 0) {
    return usage("--timeout limits waiting: it goes with --wait, not with --detach");
  }
  const Status effect = check_effect(raw, options);
  return effect.ok() ? check_options(options) : effect;
}

Status convert_backup(const RawOptions& raw, CommandLine& command) {
  RawOptions copy = raw;
  copy.to = raw.object;
  copy.mode = to_string(Mode::kSnapshot);
  copy.point_in_time = true;
  MigrateRequest& backup = command.migrate;
  backup.backup = true;
  backup.options.since_bitmap = raw.since;
  Status status;
  if (!raw.begins.empty()) {
    backup.bitmap.emplace();
    take(status, "--bitmap", raw.begins, *backup.bitmap, parse_bitmap_spec);
  }
  if (!status) return status;
  const Status converted = convert_migrate(copy, command);
  return converted.ok() ? check_backup(backup) : converted;
}

Status convert_settle(const RawOptions& raw, CommandLine& command) {
  if (!raw.to.empty()) {
    RawOptions copy = raw;
    copy.mode = to_string(Mode::kSettle);
    if (raw.on_stall.empty()) copy.on_stall = to_string(OnStall::kThrottle);
    const Status converted = convert_migrate(copy, command);
    if (!converted) return converted;
    const OnStall action = command.migrate.options.on_stall;
    if (action == OnStall::kThrottle || action == OnStall::kFail) return {};
    return usage("--on-stall: a disk that settles can throttle or fail");
  }
  for (const std::string* text : {&raw.bwlimit, &raw.max_downtime, &raw.on_stall, &raw.verify}) {
    if (!text->empty()) {
      return usage("--bwlimit, --max-downtime, --on-stall and --verify go with --into");
    }
  }
  Status status;
  take(status, "--timeout", raw.timeout, command.timeout, parse_duration);
  command.wait = !raw.detach;
  return status;
}

Status convert_bitmap(const RawOptions& raw, BitmapSpec& bitmap) {
  Status status;
  take(status, "bitmap", raw.object, bitmap, parse_bitmap_spec);
  if (status.ok() && !raw.granularity.empty()) {
    take(status, "--granularity", raw.granularity, bitmap.granularity_bytes, parse_size_32);
  }
  bitmap.persistent = !raw.transient;
  bitmap.recording = !raw.disabled;
  return status;
}

/// "NAME=VALUE" as one of what a job or, with --daemon, the daemon can be told.
Status convert_setting(const std::string& setting, CommandLine& command) {
  const std::size_t equals = setting.find('=');
  const std::string name = setting.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : setting.substr(equals + 1);
  JobChange& change = command.change;
  Status status;
  if (name == "bwlimit" && !value.empty()) {
    std::uint64_t rate = 0;
    take(status, "bwlimit", value, rate, parse_limit);
    change.bwlimit_bytes_per_second = rate;
    return status;
  }
  if (name == "priority" && !value.empty() && !command.for_daemon) {
    Priority priority = Priority::kNormal;
    take(status, "priority", value, priority, parse_priority);
    change.priority = priority;
    return status;
  }
  if (name == "max-downtime" && !value.empty() && !command.for_daemon) {
    Duration longest{};
    take(status, "max-downtime", value, longest, parse_duration);
    if (status.ok() && longest <= Duration::zero()) {
      return usage("max-downtime: must be longer than zero");
    }
    change.max_downtime = longest;
    return status;
  }
  return usage("set: '" + setting + "' is not known: " +
               (command.for_daemon
                    ? "bwlimit=RATE can be set of the daemon"
                    : "bwlimit=RATE, priority=low|normal|high and max-downtime=TIME can be set"));
}

Status convert_set(const RawOptions& raw, CommandLine& command) {
  command.for_daemon = raw.for_daemon;
  std::vector<std::string> settings = raw.settings;
  if (raw.for_daemon && !raw.subject.empty()) {
    settings.insert(settings.begin(), raw.subject);  // there is no job to name
    command.subject.clear();
  }
  if (!raw.for_daemon && raw.subject.empty()) return usage("JOB is required, or --daemon");
  if (settings.empty()) return usage("set: nothing to set: bwlimit=RATE, for example");
  for (const std::string& setting : settings) {
    const Status taken = convert_setting(setting, command);
    if (!taken.ok()) return taken;
  }
  return {};
}

}  // namespace

Result<BitmapSpec> parse_bitmap_spec(const std::string& text) {
  BitmapSpec bitmap;
  // From the right: a name may hold a colon, a granularity does not.
  const auto colon = text.rfind(':');
  bitmap.name = text.substr(0, colon);
  if (colon != std::string::npos) {
    const Result<std::uint32_t> granularity = parse_size_32(text.substr(colon + 1));
    if (!granularity) return granularity.error();
    bitmap.granularity_bytes = *granularity;
  }
  const Status name = check_name("bitmap", bitmap.name);
  if (!name) return name.error();
  return bitmap;
}

Result<CommandLine> convert(Verb verb, const RawOptions& raw) {
  CommandLine command;
  command.verb = verb;
  command.state_dir = raw.state_dir;
  command.subject = raw.subject;
  command.object = raw.object;
  command.watch = raw.watch;
  command.foreground = raw.foreground;
  command.forget = raw.forget;
  command.force = raw.force;
  command.adopt = raw.adopt;
  command.tls = raw.tls;
  command.proof_epoch = raw.proof_epoch;
  command.proof_owner = raw.proof_owner;
  Status status;
  take(status, "-o", raw.output, command.format, parse_format);
  take(status, "ls", raw.listed, command.listed, parse_listed);
  if (!status) return status.error();
  switch (verb) {
    case Verb::kServe:
      status = convert_serve(raw, command);
      break;
    case Verb::kMigrate:
      status = convert_migrate(raw, command);
      if (status.ok() && command.migrate.options.mode == Mode::kSettle) {
        status = usage("--mode settle: say 'blockmig settle DISK --into FOLDER'");
      }
      break;
    case Verb::kBackup:
      status = convert_backup(raw, command);
      break;
    case Verb::kSettle:
      status = convert_settle(raw, command);
      break;
    case Verb::kSet:
      status = convert_set(raw, command);
      break;
    case Verb::kBitmapAdd:
      status = convert_bitmap(raw, command.bitmap);
      break;
    case Verb::kBitmapMerge:
      command.merge.sources = raw.sources;
      break;
    case Verb::kStatus:
    case Verb::kAbort:
    case Verb::kPause:
    case Verb::kResume:
    case Verb::kList:
    case Verb::kVerify:
    case Verb::kBitmapRemove:
    case Verb::kBitmapList:
    case Verb::kForceOwn:
    case Verb::kManifestMake:
    case Verb::kManifestCheck:
    case Verb::kManifestShow:
    case Verb::kDisconnect:
    case Verb::kDetach:
    case Verb::kStop:
    case Verb::kMetrics:
    case Verb::kVersion:
      break;
    case Verb::kHelp:
      if (raw.subject != "limits")
        status = usage("there is help about every command, and about limits");
      break;
  }
  if (!status) return status.error();
  return command;
}

Result<DaemonCommandLine> convert_daemon(const RawOptions& raw) {
  ConfiguredDaemon configured{raw.state_dir, raw.process};
  if (!raw.config.empty()) {
    const Status read = read_config_file(raw.config, configured);
    if (!read) return usage("--config: " + read.error().message());
  }
  const Result<ProcessSettings> process = convert_process(configured.process);
  if (!process) return process.error();
  DaemonCommandLine command;
  command.state_dir = configured.state_dir;
  command.process = *process;
  command.show_limits = raw.show_limits;
  return command;
}

}  // namespace blockmig
