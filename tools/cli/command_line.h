// SPDX-License-Identifier: Apache-2.0
// The command lines of blockmig and blockmigd as values. Parsing judges every option; what comes
// out is in range and canonical (absolute paths, bytes, durations). Pure, but for the working
// folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/cli/process_options.h"
#include "tools/cli/tls_client.h"
#include "tools/control/messages.h"

namespace blockmig {

enum class Verb {
  kServe,
  kMigrate,
  kBackup,
  kSettle,
  kStatus,
  kMetrics,
  kAbort,
  kPause,
  kResume,
  kSet,
  kList,
  kVerify,
  kBitmapAdd,
  kBitmapRemove,
  kBitmapMerge,
  kBitmapList,
  kManifestMake,
  kManifestCheck,
  kManifestShow,
  kForceOwn,
  kDisconnect,
  kDetach,
  kStop,
  kVersion,
  kHelp,
};

enum class OutputFormat { kTable, kWide, kJson, kJsonLines };

enum class Listed { kDisks, kJobs, kClients };

struct CommandLine {
  Verb verb = Verb::kVersion;
  std::string state_dir;  ///< as given; may be empty
  std::string subject;    ///< DISK, JOB, CLIENT, or verify's A; may be empty for status
  std::string object;     ///< verify's B, a bitmap's name
  OutputFormat format = OutputFormat::kTable;
  Listed listed = Listed::kDisks;
  bool watch = false;

  ServeRequest serve;
  ProcessSettings process;  ///< where serve becomes the daemon
  bool foreground = false;

  MigrateRequest migrate;
  bool on_target_error_given = false;
  Status as_copy;  ///< what speaks against it where it means a copy without a daemon
  bool mode_given = false;
  bool wait = true;
  Duration timeout{};  ///< of waiting; zero: none

  JobChange change;         ///< set
  bool for_daemon = false;  ///< set: not of a job
  BitmapSpec bitmap;
  BitmapMerge merge;
  bool forget = false;
  bool force = false;             ///< manifest make
  bool adopt = false;             ///< manifest check
  TlsClient tls;                  ///< verify
  std::uint64_t proof_epoch = 0;  ///< force-own
  std::string proof_owner;
};

struct DaemonCommandLine {
  std::string state_dir;
  ProcessSettings process;
  bool show_limits = false;  ///< print them instead of running
};

/// A command, or what to print instead of one (help, version: exit code 0; a usage error: 2).
template <typename Command>
struct ParseOutcome {
  std::optional<Command> command;
  int exit_code = 0;
  std::string text;
};

/// `arguments` without the program's name.
ParseOutcome<CommandLine> parse_command_line(const std::vector<std::string>& arguments);
ParseOutcome<DaemonCommandLine> parse_daemon_command_line(
    const std::vector<std::string>& arguments);

/// "NAME" or "NAME:GRANULARITY". kInvalid.
Result<BitmapSpec> parse_bitmap_spec(const std::string& text);

}  // namespace blockmig
