// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/standard_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <initializer_list>

namespace blockmig {

void fill_standard_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) != -1) continue;
    // The lowest number that is free, which is this one.
    if (::open("/dev/null", O_RDWR) != descriptor) ::_exit(1);
  }
}

}  // namespace blockmig
