// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/uring_setup.h"

#include <liburing.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace blockmig {
namespace {

constexpr unsigned kSubmissions = 256;   // more only cost an earlier submission
constexpr unsigned kCompletions = 4096;  // more are kept by the kernel (IORING_FEAT_NODROP)

unsigned setup_flags(UringSetup setup) {
  switch (setup) {
    case UringSetup::kDeferred:
      // Disabled until the loop runs: a ring of one issuer belongs to the thread that enables it.
      return IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
             IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL;
    case UringSetup::kCooperative:
      return IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
    case UringSetup::kPlain:
      return 0;
  }
  return 0;
}

Error refused(int os_errno) {
  return Error(ErrorCode::kNotSupported,
               "io_uring is refused here (" + std::string(std::strerror(os_errno)) +
                   "); use --loop portable",
               os_errno);
}

}  // namespace

Result<bool> open_ring(UringSetup best, io_uring& ring) {
  int result = -EINVAL;
  bool enabled = true;
  for (const UringSetup setup :
       {UringSetup::kDeferred, UringSetup::kCooperative, UringSetup::kPlain}) {
    if (setup < best) continue;
    io_uring_params parameters{};
    parameters.flags = setup_flags(setup) | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    parameters.cq_entries = kCompletions;
    result = io_uring_queue_init_params(kSubmissions, &ring, &parameters);
    enabled = (parameters.flags & IORING_SETUP_R_DISABLED) == 0;
    if (result != -EINVAL) break;  // EINVAL: flags that this kernel does not know
  }
  if (result < 0) return refused(-result);
  // RSRC_TAGS came with Linux 5.13, as multishot poll did, which has no feature bit of its own.
  constexpr unsigned kNeeded = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_RSRC_TAGS;
  if ((ring.features & kNeeded) != kNeeded) {
    io_uring_queue_exit(&ring);
    return refused(ENOSYS);
  }
  return enabled;
}

}  // namespace blockmig
