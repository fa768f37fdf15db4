// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/error.h"

#include <cerrno>
#include <system_error>

namespace blockmig {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kIo:
      return "io-error";
    case ErrorCode::kNoSpace:
      return "no-space";
    case ErrorCode::kInvalid:
      return "invalid";
    case ErrorCode::kNotSupported:
      return "not-supported";
    case ErrorCode::kReadOnly:
      return "read-only";
    case ErrorCode::kNotFound:
      return "not-found";
    case ErrorCode::kBusy:
      return "busy";
    case ErrorCode::kTimedOut:
      return "timed-out";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kDisconnected:
      return "disconnected";
    case ErrorCode::kProtocol:
      return "protocol";
    case ErrorCode::kMismatch:
      return "mismatch";
    case ErrorCode::kPrecondition:
      return "precondition";
    case ErrorCode::kShutdown:
      return "shutdown";
    case ErrorCode::kNotConverging:
      return "not-converging";
    case ErrorCode::kNoMemory:
      return "no-memory";
    case ErrorCode::kOverflow:
      return "overflow";
  }
  return "unknown";
}

ErrorCode code_from_errno(int os_errno) {
  switch (os_errno) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ErrorCode::kNoSpace;
    case EINVAL:
      return ErrorCode::kInvalid;
    case EOPNOTSUPP:
    case ENOSYS:
    case ENOTTY:
      return ErrorCode::kNotSupported;
    case EROFS:
    case EPERM:
    case EACCES:
      return ErrorCode::kReadOnly;
    case ENOENT:
    case ENXIO:
      return ErrorCode::kNotFound;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY:
    case EADDRINUSE:
      return ErrorCode::kBusy;
    case ETIMEDOUT:
      return ErrorCode::kTimedOut;
    case ECANCELED:
      return ErrorCode::kCancelled;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return ErrorCode::kDisconnected;
    case EPROTO:
      return ErrorCode::kProtocol;
    case ESHUTDOWN:
      return ErrorCode::kShutdown;
    case ENOMEM:
      return ErrorCode::kNoMemory;
    case EOVERFLOW:
      return ErrorCode::kOverflow;
    default:
      return ErrorCode::kIo;
  }
}

Error Error::from_errno(int os_errno, std::string_view what) {
  std::string text(what);
  text += ": ";
  text += std::generic_category().message(os_errno);
  return Error(code_from_errno(os_errno), std::move(text), os_errno);
}

std::string Error::message() const { return message_ ? *message_ : std::string(to_string(code_)); }

Error Error::with_context(std::string_view what) const {
  std::string text(what);
  text += ": ";
  text += message();
  return Error(code_, std::move(text), os_errno_);
}

}  // namespace blockmig
