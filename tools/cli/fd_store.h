// SPDX-License-Identifier: Apache-2.0
// A handover through the service manager: what a daemon leaves when it is restarted lies in
// systemd's descriptor store (sd_notify(3): FDSTORE, FileDescriptorStoreMax=) until the next one
// starts. Each descriptor has a name, "blockmig.0" … and "blockmig.state" for a memory file with
// the state's text (HandoverState).
//
// Thread rule: the main thread; blocking, but only on a datagram socket.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/inherited_sockets.h"
#include "tools/daemon/handover.h"

namespace blockmig {

/// Tells the service manager `state`, as "READY=1"; nothing without one (NOTIFY_SOCKET).
Status notify_service_manager(const std::string& state);
/// kPrecondition: there is no service manager.
Status store_handover(const Handover& handover);
/// Takes a stored handover out of what the process was started with; null if there is none.
Result<std::shared_ptr<Handover>> take_stored_handover(std::vector<InheritedSocket>& sockets);
/// It is no longer wanted: a later start must not find it.
Status forget_stored_handover(const Handover& handover);

}  // namespace blockmig
