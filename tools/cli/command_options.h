// SPDX-License-Identifier: Apache-2.0
// The options of the commands that have many. Only for command_line.cc and command_options.cc.
#pragma once

#include <string>

#include "tools/cli/raw_options.h"

namespace CLI {
class App;
}

namespace blockmig {

/// An option that was given empty is a mistake (a variable without a value), not one left out.
void refuse_empty_values(CLI::App& app);
void add_output(CLI::App& app, RawOptions& raw, const std::string& formats);
void add_process_options(CLI::App& app, RawOptions& raw, bool is_daemon);
void add_serve(CLI::App& app, RawOptions& raw);
void add_migrate(CLI::App& app, RawOptions& raw);
void add_backup(CLI::App& app, RawOptions& raw);
void add_settle(CLI::App& app, RawOptions& raw);

}  // namespace blockmig
