// SPDX-License-Identifier: Apache-2.0
// The two ends of the control protocol, without HTTP: requests in, responses out.
//
// A daemon implements ControlHandler. ControlServer puts one behind a socket; ControlClient is the
// same interface on the other end of that socket. So a command works against a daemon of another
// process and against one inside its own process in the same way.
#pragma once

#include <string>

#include "blockmig/base/error.h"

namespace blockmig {

struct ControlRequest {
  std::string method;  ///< "GET", "POST", "DELETE"
  std::string path;    ///< decoded, without query
  std::string body;    ///< JSON or empty
};

struct ControlResponse {
  int status = 200;
  std::string body;  ///< JSON: the answer, or {"error":{"code","message"}}
  const char* content_type = "application/json";
  bool ok() const { return status >= 200 && status < 300; }
};

/// The one path that is not JSON: everything that is measured, in Prometheus' text format.
inline constexpr const char* kMetricsPath = "/metrics";
inline constexpr const char* kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

class ControlHandler {
 public:
  virtual ~ControlHandler() = default;
  /// Any thread, several at a time. Returns within bounded time, with an error response if need be.
  virtual ControlResponse handle(const ControlRequest& request) = 0;
};

}  // namespace blockmig
