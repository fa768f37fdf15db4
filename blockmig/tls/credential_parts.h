// SPDX-License-Identifier: Apache-2.0
// TlsCredentials::Parts: GnuTLS' handles behind TlsCredentials. For this folder's .cc files:
// gnutls.h stays behind this wall. Built once, then only read; GnuTLS allows many sessions, also of
// several threads, to use one set.
#pragma once

#include <gnutls/gnutls.h>

#include <string>
#include <vector>

#include "blockmig/tls/credentials.h"

namespace blockmig {

struct TlsCredentials::Parts {
  Parts() = default;
  ~Parts();
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  bool is_server = false;
  bool require_client_certificate = true;
  gnutls_priority_t priority = nullptr;
  gnutls_certificate_credentials_t certificates = nullptr;
  gnutls_psk_server_credentials_t psk_server = nullptr;
  gnutls_psk_client_credentials_t psk_client = nullptr;
  std::vector<PskKey> keys;  ///< of a server
};

/// "WHAT: <text of the library's error>".
Error gnutls_failure(ErrorCode code, const std::string& what, int error);

}  // namespace blockmig
