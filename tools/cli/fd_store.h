// SPDX-License-Identifier: Apache-2.0
// A handover through the service manager: what a daemon leaves when it is restarted lies in
// systemd's descriptor store (sd_notify(3): FDSTORE, FileDescriptorStoreMax=) until the next one
// starts. Each descriptor has a name, "blockmig.0" … and "blockmig.state" for a memory file with
// the state's text (HandoverState).
//
// The state goes first, then listeners, then clients: a store that is full drops what comes last,
// and a process may be killed on the way, so what is lost then are clients, who are cut. A socket
// is taken for the one that the state means only if it is (SO_COOKIE): names may be left of an
// earlier life. Without a state nothing can be gone on with, and it is as after a crash.
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

/// One that can be told something has started this (NOTIFY_SOCKET).
bool has_service_manager();
/// Tells the service manager `state`, as "READY=1"; nothing without one (NOTIFY_SOCKET).
Status notify_service_manager(const std::string& state);
/// Tells it that this ends; any error: it hears nothing, and keeps nothing.
Status tell_of_end();
/// Without the listeners of a socket unit: the service manager has those. kPrecondition: there is
/// no service manager.
Status store_handover(Handover& handover);
/// After an error of store_handover(), since nobody comes to go on: the store is told to forget it,
/// clients see the end of their connections, and socket files that are ours are removed.
void drop_handover(const Handover& handover);
/// Takes a stored handover out of what the process was started with. What cannot be gone on with is
/// shut down, whoever has copies of it: clients hear of it, and addresses are free.
StoredHandover take_stored_handover(std::vector<InheritedSocket>& sockets);
/// It is no longer wanted: a later start must not find it.
Status forget_stored_handover(const StoredHandover& stored);

}  // namespace blockmig
