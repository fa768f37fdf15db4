// SPDX-License-Identifier: Apache-2.0
// What a certificate says: its dates and its names. For this folder's .cc files. Pure, but for the
// clock; any thread.
#pragma once

#include <gnutls/gnutls.h>

#include <string>

#include "blockmig/base/error.h"
#include "blockmig/tls/peer_identity.h"

namespace blockmig {

/// Checks that `pem` holds certificates and that the first of them is valid today. kInvalid,
/// kPrecondition; the message names `path`.
Status check_certificate_dates(const std::string& pem, const std::string& path);

/// The names in a certificate that has been verified. A name with a zero byte or another control
/// character in it is left out: it would read differently in rules and logs than where it was
/// issued.
PeerIdentities identities_of_certificate(const gnutls_datum_t& der);

}  // namespace blockmig
