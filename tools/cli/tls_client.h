// SPDX-License-Identifier: Apache-2.0
// TlsClient: what a command proves itself with where it connects to a store or a disk by TLS. Also
// for disks that are named and not addressed: their URIs have no credentials. Values; any thread.
#pragma once

#include <string>

#include "blockmig/base/uri.h"

namespace blockmig {

struct TlsClient {
  std::string user;          ///< whose pre-shared key
  std::string psk_file;      ///< of pre-shared keys
  std::string certificates;  ///< folder of ca-cert.pem, client-cert.pem and client-key.pem
};

/// The URI with what it does not say itself. Unchanged without TLS. kInvalid: a user name that no
/// URI can hold.
Result<StoreUri> with_credentials(const StoreUri& uri, const TlsClient& client);

}  // namespace blockmig
