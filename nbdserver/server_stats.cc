// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/server_stats.h"

#include "nbdserver/client_counters.h"

namespace blockmig {

const char* to_string(NbdOp op) {
  switch (op) {
    case NbdOp::kRead:
      return "read";
    case NbdOp::kWrite:
      return "write";
    case NbdOp::kFlush:
      return "flush";
    case NbdOp::kTrim:
      return "trim";
    case NbdOp::kZero:
      return "zero";
    case NbdOp::kBlockStatus:
      return "block_status";
    case NbdOp::kCache:
      return "cache";
    case NbdOp::kOther:
      return "other";
  }
  return "other";
}

NbdOp nbd_op(nbd::Command command) {
  switch (command) {
    case nbd::Command::kRead:
      return NbdOp::kRead;
    case nbd::Command::kWrite:
      return NbdOp::kWrite;
    case nbd::Command::kFlush:
      return NbdOp::kFlush;
    case nbd::Command::kTrim:
      return NbdOp::kTrim;
    case nbd::Command::kWriteZeroes:
      return NbdOp::kZero;
    case nbd::Command::kBlockStatus:
      return NbdOp::kBlockStatus;
    case nbd::Command::kCache:
      return NbdOp::kCache;
    case nbd::Command::kDisc:
    case nbd::Command::kResize:
      break;
  }
  return NbdOp::kOther;  // also for numbers that are no command
}

const char* to_string(NbdHandshakeFailure failure) {
  switch (failure) {
    case NbdHandshakeFailure::kClosed:
      return "closed";
    case NbdHandshakeFailure::kProtocol:
      return "protocol";
    case NbdHandshakeFailure::kLimit:
      return "limit";
    case NbdHandshakeFailure::kTimeout:
      return "timeout";
    case NbdHandshakeFailure::kUnknownExport:
      return "unknown-export";
    case NbdHandshakeFailure::kTlsRequired:
      return "tls-required";
    case NbdHandshakeFailure::kTls:
      return "tls";
    case NbdHandshakeFailure::kShutdown:
      return "shutdown";
  }
  return "";
}

const char* to_string(NbdClientEnd end) {
  switch (end) {
    case NbdClientEnd::kLeft:
      return "left";
    case NbdClientEnd::kProtocol:
      return "protocol";
    case NbdClientEnd::kCut:
      return "cut";
    case NbdClientEnd::kShutdown:
      return "shutdown";
  }
  return "";
}

}  // namespace blockmig
