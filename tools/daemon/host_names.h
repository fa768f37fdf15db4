// SPDX-License-Identifier: Apache-2.0
// Whether two names of hosts lead to one machine, so that one NBD export under two addresses is
// seen.
//
// Names are resolved as a client would resolve them; what cannot be resolved is compared as text.
// Thread rule: any; all of it blocks.
#pragma once

#include <string>

namespace blockmig {

/// One server may be meant. Of two addresses of this machine it may be, too: most servers listen on
/// all of them.
bool may_be_same_host(const std::string& a, const std::string& b);

/// Who connects to `host` gets to a socket that listens on `listening`: an address, or empty,
/// 0.0.0.0 or :: for all of this machine's.
bool leads_to_listener(const std::string& host, const std::string& listening);

}  // namespace blockmig
