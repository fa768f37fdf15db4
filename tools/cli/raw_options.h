// SPDX-License-Identifier: Apache-2.0
// Options as they were typed, and their conversion to values. Only for this folder's sources:
// command_line.cc and command_options.cc, which see the parsing library, fill them in;
// convert_options.cc and mode_options.cc, which do not, judge them. Values.
#pragma once

#include <string>
#include <vector>

#include "tools/cli/command_line.h"
#include "tools/cli/process_options.h"
#include "tools/cli/tls_client.h"

namespace blockmig {

struct RawOptions {
  std::string state_dir;
  std::string subject;
  std::string object;
  std::string output = "table";
  std::string listed;
  bool watch = false;

  RawProcess process;

  std::string source;
  bool read_only = false;
  std::string cache = "buffered";
  std::vector<std::string> bitmaps;
  std::string description;
  std::string create_size;
  bool force_source = false;
  bool foreground = false;

  std::string to;
  std::string mode;
  std::string bwlimit;
  std::string priority;
  std::string max_downtime;
  std::string mirror_deadline;
  std::string max_guest_latency;
  std::string on_stall;
  bool point_in_time = false;
  bool keep_record = false;
  std::string deadline;
  std::string snapshot_buffer;
  std::string verify;
  std::string granularity;
  std::string copy_depth;
  std::string copy_size;
  std::string target_timeout;
  std::string reverse_mirror;
  std::string base_patience;
  std::string on_target_error;
  std::string retry_for;
  std::string on_restart;
  std::string checkpoint_interval;
  std::string hydrate;
  bool wait = false;
  bool detach = false;
  std::string timeout;

  std::string since;   ///< backup
  std::string begins;  ///< backup --bitmap

  bool transient = false;             ///< bitmap add
  bool disabled = false;              ///< bitmap add
  std::vector<std::string> sources;   ///< bitmap merge
  std::vector<std::string> settings;  ///< set JOB NAME=VALUE…
  bool for_daemon = false;            ///< set --daemon NAME=VALUE…
  bool forget = false;
  bool force = false;
  bool adopt = false;
  std::uint64_t proof_epoch = 0;
  std::string proof_owner;

  TlsClient tls;  ///< verify

  std::string config;        ///< blockmigd
  bool show_limits = false;  ///< blockmigd
};

/// An option that its mode does not know is a misunderstanding: refused, not ignored.
Status check_effect(const RawOptions& raw, const JobOptions& options);
/// The same for a copy of a file without a daemon.
Status check_copy_effect(const RawOptions& raw);
/// Every error is kInvalid and names the option.
Result<CommandLine> convert(Verb verb, const RawOptions& raw);
/// Reads the configuration file, if one is named.
Result<DaemonCommandLine> convert_daemon(const RawOptions& raw);

}  // namespace blockmig
