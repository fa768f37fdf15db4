// SPDX-License-Identifier: Apache-2.0
// The one place where our error codes become NBD error values ("Error values" of the
// specification). Pure; any thread.
#pragma once

#include "blockmig/base/error.h"
#include "nbdserver/wire.h"

namespace blockmig::nbd {

/// `fast_zero`: the request was a WRITE_ZEROES with FAST_ZERO, the only one that may be answered
/// ENOTSUP. What the specification has no value for is EIO, never success (I11).
WireError wire_error(ErrorCode code, bool fast_zero);

}  // namespace blockmig::nbd
