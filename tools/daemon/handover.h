// SPDX-License-Identifier: Apache-2.0
// Handover: a daemon's listeners, clients and disks on their way to the one that takes its place,
// and the message that carries them between two processes.
//
//   old                                     new
//   ◀──────── connection to the new one's socket, opened by the old one
//   message: text, descriptors ───────────▶ opens journal and disks, goes on with the clients
//   ◀──────── "ok", or why not ──────────── then the old one ends, or takes back what opens
//
// The old one has closed its journal and its disks before it sends (I3); it keeps its own copies of
// the descriptors until it has heard "ok". Thread rule: sending and receiving block, for
// kHandoverPatience at most; not on a loop.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/unique_fd.h"
#include "nbdserver/parked_client.h"
#include "tools/control/handover_state.h"

namespace blockmig {

struct Handover {
  HandoverState state;
  std::vector<UniqueFd> sockets;  ///< of the listeners, then of the clients, in the state's order
  UniqueFd lock;                  ///< of the state folder (StateDirLock), which is never free
};

/// A handover that waits with the service manager (tools/cli/fd_store.h).
struct StoredHandover {
  std::shared_ptr<Handover> handover;  ///< null: none, or none that can be gone on with
  std::set<std::string> names;         ///< of all that is stored
  std::vector<std::string> listen;     ///< addresses of which the listener is lost
  std::string complaint;               ///< what is lost of it, and what to do; empty: nothing
};

/// Of the server; the disks are the caller's to add.
Handover handover_of(ParkedServer parked);
/// kInvalid: what the state says does not fit the descriptors, or no client can be like that. The
/// handover keeps its own descriptors: these are copies.
Result<ParkedServer> parked_of(const Handover& handover);
/// Without these disks; their clients are cut.
void leave_out(Handover& handover, const std::set<std::string>& disks);
/// Without listeners that are somebody else's, who passes them to every daemon.
void leave_out_activated(Handover& handover);

/// Where one of a handover's disks cannot be opened.
enum class ResumedDisks {
  kAll,       ///< none is served: who has sent it takes all of them back
  kOpenable,  ///< the others are: there is nobody else to go on with their clients
};

/// A process that was killed lets go of its journal and images a moment after it is gone.
inline constexpr Duration kReleasePatience = std::chrono::seconds(5);
inline constexpr Duration kReleasePoll = std::chrono::milliseconds(50);
inline constexpr Duration kHandoverPatience = std::chrono::seconds(30);

/// `connection` is a unix socket.
Status send_handover(int connection, const Handover& handover);
/// The sender's refusal comes back as an error of its own words.
Result<Handover> receive_handover(int connection);
/// Instead of a handover: why there is none.
Status send_refusal(int connection, const Error& error);

/// What the receiver says in the end, and what the sender waits for. kDisconnected: it is gone.
Status send_verdict(int connection, const Status& verdict);
Status receive_verdict(int connection);

}  // namespace blockmig
