// SPDX-License-Identifier: Apache-2.0
// The options of the process that serves: blockmigd, or `blockmig serve` where it becomes the
// daemon. One table is the source of the command line's options, of their help and of the keys of a
// configuration file. Pure, but for the working folder and the user database.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/stream.h"
#include "nbdserver/admission.h"
#include "nbdserver/limits.h"
#include "nbdserver/security.h"
#include "tools/daemon/log.h"

namespace blockmig {

/// As typed; empty: not given.
struct RawProcess {
  std::string loop;
  std::string log;
  std::string log_level;
  std::string metrics;
  std::string bwlimit;
  std::string stop_timeout;
  std::string threads;
  std::vector<std::string> listen;
  std::string socket_mode;
  std::string socket_group;
  std::vector<std::string> allow_uid;
  std::vector<std::string> allow_gid;
  std::vector<std::string> limits;
  bool stdio = false;
  bool replace = false;
  bool fd_store = false;
  std::vector<std::string> disks;
  std::string tls;
  std::string tls_certs;
  std::string tls_psk;
  bool tls_any_client = false;
  bool tls_list = false;
  std::vector<std::string> allow;
};

struct ProcessOption {
  using Place = std::variant<std::string RawProcess::*, std::vector<std::string> RawProcess::*,
                             bool RawProcess::*>;

  const char* name;  ///< without dashes; the same in a configuration file
  const char* type;  ///< what help shows for the value; empty for a flag
  const char* help;
  Place place;
  /// It makes no sense for a disk that is added to a daemon that runs already.
  bool fixed_at_start = true;
  /// Only blockmigd has it.
  bool daemon_only = false;
  /// The value is a number in octal; on the command line it does not say so.
  bool octal = false;
};

std::span<const ProcessOption> process_options();
bool is_given(const RawProcess& raw, const ProcessOption& option);

struct DiskArgument {
  std::string name;
  std::string source;  ///< canonical store URI
};

/// In range and canonical.
struct ProcessSettings {
  LoopKind loop = LoopKind::kAuto;
  LogForm log = LogForm::kAuto;
  LogLevel log_level = LogLevel::kInfo;
  std::optional<SocketAddress> metrics;                   ///< TCP; where scrapes are answered too
  std::optional<std::uint64_t> bwlimit_bytes_per_second;  ///< of all jobs together; 0: none
  Duration stop_timeout = std::chrono::seconds(30);
  unsigned threads = 0;  ///< 0: as many as there are processors, within reason
  std::vector<std::string> listen;
  UnixSocketOptions unix_sockets;
  PeerRules peers;
  NbdServerLimits limits;
  NbdSecurityOptions security;
  bool stdio = false;
  bool replace = false;   ///< take the place of the running daemon
  bool fd_store = false;  ///< leave the clients with the service manager at the end
  std::vector<DiskArgument> disks;
  /// Names of given options that a running daemon cannot take on.
  std::vector<std::string> fixed_at_start;
};

/// Every error is kInvalid and names the option.
Result<ProcessSettings> convert_process(const RawProcess& raw);

}  // namespace blockmig
