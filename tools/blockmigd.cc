// SPDX-License-Identifier: Apache-2.0
// blockmigd: the daemon.
#include <string>
#include <vector>

#include "tools/cli/commands.h"
#include "tools/cli/standard_descriptors.h"

int main(int argc, char** argv) {
  blockmig::fill_standard_descriptors();
  return blockmig::run_blockmigd(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
