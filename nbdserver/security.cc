// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/security.h"

#include <utility>

namespace blockmig {

Result<std::shared_ptr<const NbdSecurity>> make_nbd_security(const NbdSecurityOptions& options) {
  NbdSecurity security;
  if (options.tls == "on") {
    security.tls = TlsMode::kOn;
  } else if (options.tls == "require") {
    security.tls = TlsMode::kRequire;
  } else if (options.tls != "off") {
    return Error(ErrorCode::kInvalid, "TLS is off, on or require, not '" + options.tls + "'");
  }
  const bool has_files = !options.tls_certificates.empty() || !options.tls_psk.empty();
  if (security.tls == TlsMode::kOff && has_files) {
    // Whoever names keys believes to be protected by them.
    return Error(ErrorCode::kInvalid,
                 "there are TLS certificates or keys, but TLS is off; turn it on or require it");
  }
  if (security.tls != TlsMode::kOff) {
    auto credentials = TlsCredentials::for_server(
        {options.tls_certificates, options.tls_psk, options.tls_verify_peer});
    if (!credentials) return credentials.error();
    security.credentials = *std::move(credentials);
  }
  auto access = ExportAccess::parse(options.allow);
  if (!access) return access.error();
  security.access = *std::move(access);
  security.list_before_tls = options.tls_list;
  security.open_to_networks = options.open_to_networks || !options.allow.empty();
  return std::shared_ptr<const NbdSecurity>(
      std::make_shared<const NbdSecurity>(std::move(security)));
}

}  // namespace blockmig
