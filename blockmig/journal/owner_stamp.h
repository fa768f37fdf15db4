// SPDX-License-Identifier: Apache-2.0
// OwnerStamp: what the sidecar beside an image says about who may use it (I3), so that a store that
// is opened without its journal, or with an old copy of it, is refused.
//
// The journal alone decides which store a disk lives on; stamps say to everybody else what it has
// decided, and are never ahead of it:
//
//              the disk's store                          the target of a move
//   serve      current(e)                   open         target(e+1)
//   before the fence                        before the fence
//              moving(e, to T)                           taking(e+1, from S)
//   ───────────────── decision: the journal says T, e+1 ─────────────────────
//   after it   base(e+1, T) or left(e+1, T)              current(e+1)
//   no decision after all
//              current(e)                                target(e+1), or gone with its file
//   the disk ends in order
//              released(e)
//
// So while the decision is open, neither store is served by anybody but who has the journal.
// The bytes: FORMAT.md, "The owner's stamp". Values and pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"

namespace blockmig {

enum class StampState : std::uint8_t {
  kCurrent = 1,   ///< the disk lives here, and its owner serves it or has crashed
  kReleased = 2,  ///< the disk lives here; its owner has ended in order: anybody may take it
  kMoving = 3,    ///< the disk lives here unless its journal says: at `other_uri`
  kTaking = 4,    ///< the disk lives at `other_uri` unless its journal says: here
  kTarget = 5,    ///< an unfinished copy: not to be served, free to be overwritten
  kBase = 6,      ///< the disk lives at `other_uri`, and still fetches from here
  kLeft = 7,      ///< the disk lives at `other_uri`; what is here is old
};
std::string_view to_string(StampState state);

/// Which file the stamp is about: another one of that name has another.
struct ImageIdentity {
  std::uint64_t inode = 0;
  std::int64_t born_ns = 0;  ///< since 1970; 0 where the filesystem does not say
  friend bool operator==(const ImageIdentity&, const ImageIdentity&) = default;
};

struct OwnerStamp {
  StampState state = StampState::kCurrent;
  std::string owner;  ///< identity of the state folder (make_owner_id())
  std::string place;  ///< where that is, for messages: "HOST:FOLDER"
  std::string disk;
  /// Of the disk: of `target` and `taking` the one it will have here, of `base` and `left` the one
  /// that it has at `other_uri`.
  std::uint64_t epoch = 0;
  /// Drawn when a store becomes a target: tells one use from the next. Of `left`: drawn for the
  /// record of what has changed since; 0: there is none, or an older program wrote this.
  std::uint64_t token = 0;
  std::string other_uri;
  ImageIdentity image;
  /// Of `left`: the image when it was left. Later changes are somebody else's.
  std::uint64_t left_size_bytes = 0;
  std::int64_t left_modified_ns = 0;
  /// The image may have been written to in ways that its journal knows nothing of: what that has
  /// recorded about its content is not to be believed.
  bool unrecorded = false;
  /// Of `current`: its owner is about to say so in its journal, and has no clients yet.
  bool unpublished = false;
  /// Of the disk, by its owner's journal, when this was written: a journal that has not come so far
  /// is an old copy. 0: by an older program.
  std::uint64_t incarnation = 0;
  /// Not empty: the disk is not whole here; the rest is there.
  std::string rest_uri{};
  friend bool operator==(const OwnerStamp&, const OwnerStamp&) = default;
};

/// A random UUID in its usual text form.
std::string make_owner_id();
/// Not 0.
std::uint64_t make_stamp_token();

/// kOverflow: does not fit into a slot (the URI is too long). `sequence` counts the changes.
Result<std::vector<std::byte>> encode_stamp(const OwnerStamp& stamp, std::uint64_t sequence);

struct StampSlot {
  OwnerStamp stamp;
  std::uint64_t sequence = 0;
};
/// `slot` is a whole slot, or the part of it that the file has. kNotFound: blank (only zeros, or
/// nothing). kProtocol: damaged. kPrecondition: written by a newer program.
Result<StampSlot> decode_stamp(ConstBytes slot);

}  // namespace blockmig
