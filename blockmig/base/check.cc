// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace blockmig {

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::fflush(stderr);
  std::abort();
}

}  // namespace blockmig
