// SPDX-License-Identifier: Apache-2.0
// Who may use an image, by the stamp beside it and by what the user's own journal knows (I3, I7).
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "blockmig/base/error.h"
#include "blockmig/journal/owner_stamp.h"

namespace blockmig {

/// Who asks, and for what.
struct Claimant {
  std::string owner;        ///< identity of his state folder
  std::string disk;         ///< name of the disk that the image shall be
  std::string image;        ///< path, for messages
  std::uint64_t epoch = 1;  ///< of the disk, by his journal; of a target, the one it will have
  std::uint64_t incarnation = 0;  ///< of the disk, by his journal: grows with every serve and job
  /// The latest of them that is known to have come into a stamp; 0: an older program did not say.
  std::uint64_t stamped = 0;
  bool known = false;     ///< his journal says that the disk lives here
  bool partial = false;   ///< and that the rest of it is in its base
  bool replaced = false;  ///< what he had there was another file of that name
  bool force = false;     ///< gives up what is newer, where that is his own
  bool read_only = false;
  /// Of a return: what the record of the changes since is about (OwnerStamp::token of `left`).
  std::uint64_t record = 0;
};

struct ServeVerdict {
  std::uint64_t epoch = 1;  ///< to serve it with: never below what the image has seen
  /// Nobody else has had the image since this journal last did, and the journal knows of every
  /// write: what it recorded about the image's content still holds.
  bool continued = false;
  /// Of a claimant who knows it: only because he forces it. Whatever he knows of it is not so.
  bool forced = false;
  /// Not `continued`, because image and stamp are those of an earlier time than the journal.
  bool rolled_back = false;
};

/// May the disk be served from the image? kPrecondition: it may not; the message says whose it is,
/// where the disk's content is now, and what to do. A reader is only kept from what is old or
/// unfinished: he acknowledges no writes.
Result<ServeVerdict> judge_serve(const std::optional<OwnerStamp>& stamp, const Claimant& claimant);

/// May the image be overwritten as the target of a move? Not where a disk lives, whether it is
/// served or was released: whoever serves that takes its content over, whoever copies over it loses
/// it. The token that its stamp is to have: that of the same move's stamp, if it is there already;
/// else 0, for a new one.
Result<std::uint64_t> judge_target(const std::optional<OwnerStamp>& stamp,
                                   const Claimant& claimant);

/// May the disk return to the image that it has left, with only what has changed since? The size
/// and the modification time are the image's as it is now; `claimant.epoch` is what the disk will
/// have. `resumed`: the move back began before a restart. kPrecondition: somebody may have changed
/// it.
Status judge_return(const std::optional<OwnerStamp>& stamp, const Claimant& claimant,
                    std::uint64_t size_bytes, std::int64_t modified_ns, bool resumed);

/// Says that a disk lives there, or fetches from there: the disk that it names.
bool is_needed(const OwnerStamp& stamp);

/// May the disk go on fetching from it (its hydration's base), and go back into it?
Status judge_base(const std::optional<OwnerStamp>& stamp, const Claimant& claimant);

/// `epoch` and `owner` are what somebody repeats from a refusal. kPrecondition: they are not what
/// the stamp says. kNotFound: there is nothing to force.
Status judge_force(const std::optional<OwnerStamp>& stamp, const std::string& image,
                   std::uint64_t epoch, const std::string& owner);

/// What the stamp says, in one line.
std::string describe_stamp(const OwnerStamp& stamp);

}  // namespace blockmig
