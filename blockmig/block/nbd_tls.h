// SPDX-License-Identifier: Apache-2.0
// Whether libnbd will verify the server that a URI names. Pure values; any thread.
#pragma once

#include <string_view>

#include "blockmig/base/error.h"
#include "blockmig/base/uri.h"

namespace blockmig {

/// kNotSupported where TLS by certificates would accept any server: libnbd before 1.20.3 checks
/// neither the name nor the issuer unless it connects by TCP (CVE-2024-7383). Pre-shared keys prove
/// both sides everywhere. A URI that says tls-verify-peer=false has been heard.
Status check_nbd_tls(const StoreUri& uri, std::string_view libnbd_version);

}  // namespace blockmig
