// SPDX-License-Identifier: Apache-2.0
// The configuration file of blockmigd: TOML, with the names of the options as keys.
//
//   listen = ["unix:/run/blockmig/nbd.sock", "tcp::10809"]
//   socket-group = "kvm"
//   threads = 2
//   limit = { connections = 1000, handshake-time = "5s" }
//
// What the command line gives wins; limits and disks are taken from both, per name the command
// line's. Reads one file; otherwise pure.
#pragma once

#include <string>

#include "blockmig/base/error.h"
#include "tools/cli/process_options.h"

namespace blockmig {

/// What a file can hold beside the process's options.
struct ConfiguredDaemon {
  std::string state_dir;
  RawProcess process;
};

/// Fills in what is not given yet. kInvalid, with file and line: not TOML, an unknown key (the
/// nearest name is suggested), a value of the wrong kind; any code for a file that cannot be read.
Status read_config_file(const std::string& path, ConfiguredDaemon& daemon);
/// The same from text; `name` is for messages.
Status read_config_text(const std::string& text, const std::string& name, ConfiguredDaemon& daemon);

}  // namespace blockmig
