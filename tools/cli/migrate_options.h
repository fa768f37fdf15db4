// SPDX-License-Identifier: Apache-2.0
// The options of `blockmig migrate`.
#pragma once

#include "tools/cli/raw_options.h"

namespace CLI {
class App;
}

namespace blockmig {

/// `raw` outlives the application.
void add_migrate(CLI::App& app, RawOptions& raw);

}  // namespace blockmig
