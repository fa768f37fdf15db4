// SPDX-License-Identifier: Apache-2.0
// Errors as values.
//
// An Error is a small stable code (what a caller branches on), the errno it came from if any, and
// one sentence for a person that names the thing: operation, path, offset. Codes are translated to
// NBD errors, exit codes and HTTP statuses once, at the edges (nbdserver/, tools/).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "blockmig/base/check.h"

namespace blockmig {

enum class ErrorCode : unsigned char {
  kIo,             ///< device said EIO or worse; NBD_EIO
  kNoSpace,        ///< no room at the store, or a write beyond the end; NBD_ENOSPC
  kInvalid,        ///< the request itself is wrong; NBD_EINVAL, exit 2
  kNotSupported,   ///< the device cannot do this, contents unchanged; NBD_ENOTSUP
  kReadOnly,       ///< write to a read-only device; NBD_EPERM
  kNotFound,       ///< no such disk, job, file, export; exit 4
  kBusy,           ///< locked, in use, already migrating; exit 5
  kTimedOut,       ///< a deadline passed
  kCancelled,      ///< somebody asked to stop; nothing is known to be wrong
  kDisconnected,   ///< the peer or the device is gone
  kProtocol,       ///< the peer broke the protocol, or a record is damaged
  kMismatch,       ///< two things that must be equal are not; exit 6
  kPrecondition,   ///< space, size, version, wrong state; exit 9
  kShutdown,       ///< we are stopping; NBD_ESHUTDOWN
  kNotConverging,  ///< the guest dirties faster than the target takes it; exit 3
  kNoMemory,       ///< out of memory; NBD_ENOMEM
  kOverflow,       ///< longer than a limit; NBD_EOVERFLOW
};

/// The code's stable name ("no-space"), as logs and JSON show it.
std::string_view to_string(ErrorCode code);

/// The code that an errno stands for; unknown ones are kIo.
ErrorCode code_from_errno(int os_errno);

class [[nodiscard]] Error {
 public:
  explicit Error(ErrorCode code) : code_(code) {}
  Error(ErrorCode code, std::string message, int os_errno = 0)
      : code_(code),
        os_errno_(os_errno),
        message_(std::make_shared<const std::string>(std::move(message))) {}

  /// "<what>: <strerror>", with the code that `os_errno` stands for.
  static Error from_errno(int os_errno, std::string_view what);

  ErrorCode code() const { return code_; }
  /// 0 where no system call failed.
  int os_errno() const { return os_errno_; }
  /// One sentence for a person; the code's name where none was given.
  std::string message() const;
  /// The same error with "<what>: " before its message.
  Error with_context(std::string_view what) const;

 private:
  ErrorCode code_;
  int os_errno_ = 0;
  std::shared_ptr<const std::string> message_;
};

/// A value or an Error. Test it, then dereference it; dereferencing an error aborts.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit on purpose
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& operator*() & {
    BM_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  const T& operator*() const& {
    BM_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  T&& operator*() && {
    BM_CHECK(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }

  const Error& error() const {
    BM_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
};

/// Success, or an Error. Default-constructed it is success and owns nothing.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), failed_(true) {}  // NOLINT

  bool ok() const { return !failed_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const {
    BM_CHECK(failed_);
    return error_;
  }

 private:
  Error error_{ErrorCode::kIo};
  bool failed_ = false;
};

using Status = Result<void>;

}  // namespace blockmig
