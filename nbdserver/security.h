// SPDX-License-Identifier: Apache-2.0
// NbdSecurity: whether the server offers or demands TLS, with which credentials, and who may see
// which exports. Immutable values; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/tls/credentials.h"
#include "nbdserver/export_access.h"

namespace blockmig {

enum class TlsMode : std::uint8_t {
  kOff,      ///< the specification's NOTLS
  kOn,       ///< SELECTIVETLS: whoever wants to
  kRequire,  ///< FORCEDTLS: no service without (I14)
};

struct NbdSecurity {
  TlsMode tls = TlsMode::kOff;
  std::shared_ptr<const TlsCredentials> credentials;  ///< set unless off
  /// With kRequire: LIST is answered before TLS too, with what everybody may see.
  bool list_before_tls = false;
  ExportAccess access;
  /// Without TLS and rules, listen also where other machines reach the exports.
  bool open_to_networks = true;
};

/// The same as a user writes it.
struct NbdSecurityOptions {
  std::string tls = "off";         ///< off, on, require
  std::string tls_certificates;    ///< folder with ca-cert.pem, server-cert.pem, server-key.pem
  std::string tls_psk;             ///< file of pre-shared keys
  bool tls_verify_peer = true;     ///< a client certificate is demanded
  bool tls_list = false;           ///< list_before_tls
  std::vector<std::string> allow;  ///< rules of ExportAccess
  bool open_to_networks = true;
};

/// Reads the files (blocks). kInvalid: an unknown mode, TLS without credentials, credentials
/// without TLS, a bad rule; else as TlsCredentials::for_server().
Result<std::shared_ptr<const NbdSecurity>> make_nbd_security(const NbdSecurityOptions& options);

}  // namespace blockmig
