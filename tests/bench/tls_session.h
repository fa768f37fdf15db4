// SPDX-License-Identifier: Apache-2.0
// TlsSession: the client side of TLS with a pre-shared key, for nbdload.
//
// Written for speed, so that the server is what is measured: one receive fills a large buffer that
// many records are taken from, and all the records of one send() leave in one system call.
//
// Lifecycle: start() shakes hands on a connected socket, which the caller keeps open and closes
// after the session is gone. Thread rule: one thread. Errors: as the socket calls, -1 and errno;
// EPROTO for what is wrong with the TLS itself.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <memory>
#include <string>

#include "blockmig/base/error.h"

namespace blockmig::bench {

class TlsSession {
 public:
  /// `psk_file` has lines `user:hexadecimal key`, as psktool writes them; the first line is used.
  /// `priority` as GnuTLS writes it; empty: TLS 1.3 or 1.2 and the ciphers that clients ask for
  /// by default. Blocks until the handshake is done.
  static Result<std::unique_ptr<TlsSession>> start(int fd, const std::string& psk_file,
                                                   const std::string& priority);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  /// Encrypts as much of the parts as is sensible at once; how many of their bytes it took. EAGAIN
  /// while the socket takes nothing and something is pending().
  ssize_t send(const iovec* parts, std::size_t count);
  /// True if encrypted bytes wait for the socket; send() with no parts tries again.
  bool pending() const;
  /// As recv(): 0 when the server has ended the session. With `block` it sleeps until something
  /// arrives, else EAGAIN.
  ssize_t receive(char* out, std::size_t size, bool block);
  /// True if receive() would return something without asking the socket.
  bool buffered() const;
  /// Protocol version, key exchange and cipher, for the report.
  std::string description() const;

 private:
  struct State;
  explicit TlsSession(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace blockmig::bench
