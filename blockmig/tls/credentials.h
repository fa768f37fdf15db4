// SPDX-License-Identifier: Apache-2.0
// TlsCredentials: what one side of TLS proves itself with and judges the other side by.
//
// x509: a folder in the layout of the NBD world: ca-cert.pem, server-cert.pem, server-key.pem and,
// where there are revocations, ca-crl.pem; for clients client-cert.pem and client-key.pem beside
// ca-cert.pem. PSK: a file of "user:hex" lines (psktool), or a folder with such a file keys.psk.
//
// Lifecycle: made once, from files (blocks) or from values; shared by the connections, which keep
// it alive: new files take effect by making a new object for the connections to come. Immutable;
// any thread. Errors name the file and say what to do; no message holds a secret.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/tls/psk_file.h"

namespace blockmig {

/// At least one of the two.
struct TlsServerFiles {
  std::string certificates_folder;
  std::string psk_file;
  /// Off: a client without a certificate is served, as nobody in particular; one with a certificate
  /// is verified all the same.
  bool require_client_certificate = true;
};

/// Exactly one of the two.
struct TlsClientFiles {
  std::string certificates_folder;
  std::string psk_file;
  std::string psk_user;  ///< which key of the file; empty: the only one
};

class TlsCredentials final {
 public:
  /// kNotFound, kPrecondition (unreadable, open to others, expired or not valid yet, key of another
  /// certificate), kInvalid (not what the file should hold, or nothing was named).
  static Result<std::shared_ptr<const TlsCredentials>> for_server(const TlsServerFiles& files);
  static Result<std::shared_ptr<const TlsCredentials>> for_client(const TlsClientFiles& files);
  /// From values: for tests, fuzzers and keys that are not files.
  static Result<std::shared_ptr<const TlsCredentials>> for_server_keys(std::vector<PskKey> keys);
  static Result<std::shared_ptr<const TlsCredentials>> for_client_key(PskKey key);

  ~TlsCredentials();
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;

  bool is_server() const;
  bool has_certificates() const;
  bool has_psk() const;

  /// The library's handles, for this folder.
  struct Parts;
  const Parts& parts() const { return *parts_; }

 private:
  explicit TlsCredentials(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace blockmig
