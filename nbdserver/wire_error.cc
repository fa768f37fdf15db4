// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/wire_error.h"

namespace blockmig::nbd {

WireError wire_error(ErrorCode code, bool fast_zero) {
  switch (code) {
    case ErrorCode::kNoSpace:
      return WireError::kNoSpc;
    case ErrorCode::kInvalid:
      return WireError::kInval;
    case ErrorCode::kNotSupported:
      return fast_zero ? WireError::kNotSup : WireError::kInval;
    case ErrorCode::kReadOnly:
      return WireError::kPerm;
    case ErrorCode::kShutdown:
      return WireError::kShutdown;
    case ErrorCode::kNoMemory:
      return WireError::kNoMem;
    case ErrorCode::kOverflow:
      return WireError::kOverflow;
    case ErrorCode::kIo:
    case ErrorCode::kNotFound:
    case ErrorCode::kBusy:
    case ErrorCode::kTimedOut:
    case ErrorCode::kCancelled:
    case ErrorCode::kDisconnected:
    case ErrorCode::kProtocol:
    case ErrorCode::kMismatch:
    case ErrorCode::kPrecondition:
    case ErrorCode::kNotConverging:
      return WireError::kIo;
  }
  return WireError::kIo;
}

}  // namespace blockmig::nbd
