// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/owner_rules.h"

#include <algorithm>

#include "blockmig/journal/owner_format.h"

namespace blockmig {
namespace {

bool is_mine(const OwnerStamp& stamp, const Claimant& claimant) {
  return stamp.owner == claimant.owner && stamp.disk == claimant.disk;
}

bool is_current(StampState state) {
  return state == StampState::kCurrent || state == StampState::kMoving ||
         state == StampState::kTaking;
}

std::string epoch_text(std::uint64_t epoch) { return "epoch " + std::to_string(epoch); }

std::string force_text(const OwnerStamp& stamp, const Claimant& claimant) {
  return "blockmig force-own " + claimant.image + " --epoch " + std::to_string(stamp.epoch) +
         " --owner " + stamp.owner;
}

/// What to do against it.
std::string way_out(const OwnerStamp& stamp, const Claimant& claimant) {
  const std::string force = force_text(stamp, claimant);
  const bool mine = stamp.owner == claimant.owner;
  switch (stamp.state) {
    case StampState::kLeft:
    case StampState::kBase:
      return ": serve that one; or give up what was written there, with " +
             (mine ? std::string("--force-source") : force);
    case StampState::kTarget:
      return mine ? ": finish the move, or use it as it is with --force-source"
                  : ": use the disk's own store, or take this one as it is with " + force;
    case StampState::kCurrent:
    case StampState::kMoving:
    case StampState::kTaking:
    case StampState::kReleased:
      break;
  }
  if (stamp.state == StampState::kReleased && stamp.disk == claimant.disk) {
    return ": take what the image holds as it is, with --force-source";
  }
  if (mine || stamp.state == StampState::kReleased) {
    return ": serve it as disk '" + stamp.disk + "', or give that up with --force-source";
  }
  const std::string start =
      stamp.rest_uri.empty()
          ? "start that daemon again and end it in order"
          : "start that daemon and make the disk whole there ('blockmig settle " + stamp.disk +
                "'), and end it in order";
  return ": " + start + ", or, where it is gone for good and writes no more, " + force;
}

Error refuse(const OwnerStamp& stamp, const Claimant& claimant) {
  return Error(ErrorCode::kPrecondition,
               "image " + claimant.image + " " + describe_stamp(stamp) + way_out(stamp, claimant));
}

/// Nothing runs there, but it is the only copy of what a disk holds.
Error refuse_target(const OwnerStamp& stamp, const Claimant& claimant) {
  return Error(ErrorCode::kPrecondition,
               "image " + claimant.image + " " + describe_stamp(stamp) +
                   ": name another target; or give up what is there, with " +
                   force_text(stamp, claimant));
}

/// `what` it is to the disk.
Error refuse_replaced(const Claimant& claimant, const std::string& what) {
  return Error(ErrorCode::kPrecondition,
               "image " + claimant.image + " is not the file that disk '" + claimant.disk +
                   "' had there, which " + what +
                   ": put that one back; or, where this is a true copy of it, remove " +
                   claimant.image + owner_format::kSuffix);
}

Error refuse_stale(const OwnerStamp& stamp, const Claimant& claimant) {
  return Error(
      ErrorCode::kPrecondition,
      "the journal is older than image " + claimant.image + ": it " +
          (claimant.known ? "knows disk '" + claimant.disk + "' at " + epoch_text(claimant.epoch) +
                                ", incarnation " + std::to_string(claimant.incarnation)
                          : "does not know disk '" + claimant.disk + "'") +
          ", but the image " + describe_stamp(stamp) +
          ": put the newer journal back; or serve what the image holds, whatever has become of the "
          "disk since, with --source " +
          claimant.image + " --force-source");
}

/// A store is `taking` before a journal names it: this is the file of an earlier try.
Error refuse_unfinished(const OwnerStamp& stamp, const Claimant& claimant) {
  return Error(ErrorCode::kPrecondition,
               "image " + claimant.image + " is not the one that disk '" + claimant.disk +
                   "' lives on, but an unfinished copy of it (" + epoch_text(stamp.epoch) +
                   "): put the disk's own image there (is its filesystem mounted, or another one "
                   "over it?); or use what is there as it is, with --force-source");
}

/// A crash between the journal and the stamp leaves the stamp behind what nobody has stamped yet,
/// which an older program cannot tell: by one, then. 0: an older program.
bool is_rolled_back(const OwnerStamp& stamp, const Claimant& claimant) {
  if (stamp.incarnation == 0) return false;
  if (claimant.stamped != 0) return stamp.incarnation < claimant.stamped;
  return stamp.incarnation + 1 < claimant.incarnation;
}

/// The disk's own stamp, on the store that its journal names.
Result<ServeVerdict> judge_own(const OwnerStamp& stamp, const Claimant& claimant) {
  const bool superseded = stamp.state == StampState::kLeft || stamp.state == StampState::kBase;
  if (stamp.incarnation > claimant.incarnation) return refuse_stale(stamp, claimant);
  // A crash came between the stamp and the journal's record; there were no clients.
  if (stamp.state == StampState::kCurrent && stamp.unpublished) {
    return ServeVerdict{std::max(claimant.epoch, stamp.epoch), false, false};
  }
  if (stamp.epoch > claimant.epoch || (superseded && stamp.epoch == claimant.epoch)) {
    return refuse_stale(stamp, claimant);
  }
  if (stamp.state == StampState::kTarget) return refuse_unfinished(stamp, claimant);
  const bool back = is_rolled_back(stamp, claimant);
  const bool continued = !superseded && stamp.epoch == claimant.epoch && !stamp.unrecorded && !back;
  return ServeVerdict{claimant.epoch, continued, false, back};
}

/// A claim for the first time that a crash cut off before it was in the journal. Older programs do
/// not say whether it was.
bool is_cut_off(const OwnerStamp& stamp, const Claimant& claimant) {
  if (stamp.state != StampState::kCurrent || !is_mine(stamp, claimant)) return false;
  if (stamp.incarnation == 0) return true;
  return stamp.unpublished && stamp.incarnation <= claimant.incarnation;
}

}  // namespace

std::string describe_stamp(const OwnerStamp& stamp) {
  const std::string disk = "disk '" + stamp.disk + "'";
  const std::string owner =
      "owner " + stamp.owner + " at " + stamp.place + ", " + epoch_text(stamp.epoch) +
      (stamp.incarnation == 0 ? "" : ", incarnation " + std::to_string(stamp.incarnation)) +
      (stamp.rest_uri.empty() ? "" : "; it is not whole: the rest is at " + stamp.rest_uri);
  switch (stamp.state) {
    case StampState::kCurrent:
      return "is the store of " + disk +
             (stamp.rest_uri.empty() ? ", whose daemon has not ended in order ("
                                     : ", which needs more than that (") +
             owner + ")";
    case StampState::kReleased:
      return "is the store of " + disk + ", whose daemon has ended in order (" + owner + ")";
    case StampState::kMoving:
      return "is the store of " + disk + " in the middle of a switchover to " + stamp.other_uri +
             ": only its journal knows which of the two it lives on (" + owner + ")";
    case StampState::kTaking:
      return "is the target of " + disk + " in the middle of a switchover from " + stamp.other_uri +
             ": only its journal knows which of the two it lives on (" + owner + ")";
    case StampState::kTarget:
      return "is an unfinished copy of " + disk + ", which lives at " + stamp.other_uri + " (" +
             owner + ")";
    case StampState::kBase:
      return "was left by " + disk + ", which lives at " + stamp.other_uri +
             " and still fetches from here (" + owner + ")";
    case StampState::kLeft:
      return "was left by " + disk + ", which has been at " + stamp.other_uri + " since " +
             epoch_text(stamp.epoch) + " (" + owner + ")";
  }
  return "has an unknown stamp";
}

Result<ServeVerdict> judge_serve(const std::optional<OwnerStamp>& stamp, const Claimant& claimant) {
  const bool others = claimant.known && claimant.partial && claimant.replaced;
  if (!stamp && others && !claimant.force) {
    return refuse_replaced(claimant, "has a part of it that is nowhere else");
  }
  if (!stamp) return ServeVerdict{claimant.epoch, false, others};
  const bool mine = is_mine(*stamp, claimant);
  if (mine && claimant.known && !claimant.force) return judge_own(*stamp, claimant);
  const std::uint64_t next = std::max(claimant.epoch, stamp->epoch + 1);
  // What this journal names was given to another disk since, or was not whole and has been written
  // to: what the journal knows of it is not so.
  const bool anothers =
      claimant.known && !mine && (claimant.partial || stamp->disk != claimant.disk);
  const bool older = claimant.known && mine && !judge_own(*stamp, claimant).ok();
  const bool forced = anothers || older;
  const bool in_part = anothers || !stamp->rest_uri.empty();
  if (stamp->state == StampState::kReleased && (!in_part || claimant.force)) {
    return ServeVerdict{next, false, forced};
  }
  if (is_cut_off(*stamp, claimant)) {
    return ServeVerdict{std::max(claimant.epoch, stamp->epoch), false, forced};
  }
  if (claimant.force && stamp->owner == claimant.owner) return ServeVerdict{next, false, forced};
  if (claimant.read_only && stamp->state == StampState::kCurrent && stamp->rest_uri.empty()) {
    return ServeVerdict{claimant.epoch, false, false};
  }
  // Its owner has had clients there, and a journal that says so.
  const bool before = mine && stamp->state == StampState::kCurrent;
  return before ? refuse_stale(*stamp, claimant) : refuse(*stamp, claimant);
}

Result<std::uint64_t> judge_target(const std::optional<OwnerStamp>& stamp,
                                   const Claimant& claimant) {
  if (!stamp) return std::uint64_t{0};
  const bool mine = is_mine(*stamp, claimant);
  if (stamp->state == StampState::kBase) {
    return Error(ErrorCode::kPrecondition,
                 "image " + claimant.image + " " + describe_stamp(*stamp) +
                     ": it cannot be overwritten until the disk is whole ('blockmig settle')");
  }
  // Where it is the disk's own, its journal has said already that the disk lives elsewhere. What an
  // owner was forced to give up has none.
  const bool lives =
      is_current(stamp->state) || (stamp->state == StampState::kReleased && !stamp->owner.empty());
  if (lives && !mine) return refuse_target(*stamp, claimant);
  const bool same_move =
      mine && stamp->epoch == claimant.epoch &&
      (stamp->state == StampState::kTarget || stamp->state == StampState::kTaking);
  return same_move ? stamp->token : std::uint64_t{0};
}

Status judge_return(const std::optional<OwnerStamp>& stamp, const Claimant& claimant,
                    std::uint64_t size_bytes, std::int64_t modified_ns, bool resumed) {
  const auto refuse_return = [&claimant](const std::string& why) {
    return Error(ErrorCode::kPrecondition, "disk '" + claimant.disk + "' cannot return to image " +
                                               claimant.image + ", which " + why +
                                               ": move it there with another mode");
  };
  if (!stamp) return refuse_return("nothing says that it has left");
  const bool begun = stamp->state == StampState::kTarget || stamp->state == StampState::kTaking;
  if (resumed && begun && is_mine(*stamp, claimant) && stamp->epoch == claimant.epoch) return {};
  if (!is_mine(*stamp, claimant) || stamp->state != StampState::kLeft) {
    return refuse_return(describe_stamp(*stamp));
  }
  if (stamp->epoch + 1 != claimant.epoch) {
    return refuse_return(describe_stamp(*stamp) + ", and has moved on since, to " +
                         epoch_text(claimant.epoch - 1));
  }
  // Epochs begin again where a disk was forgotten.
  if (stamp->token == 0 || stamp->token != claimant.record) {
    return refuse_return(describe_stamp(*stamp) +
                         (stamp->token == 0
                              ? ", but does not say since which record: there was none, or an "
                                "older program left it"
                              : ", but not with what is recorded of the changes since"));
  }
  if (!stamp->rest_uri.empty()) {
    return refuse_return("was not whole when the disk left it: the rest was at " + stamp->rest_uri);
  }
  if (stamp->left_size_bytes != size_bytes || stamp->left_modified_ns != modified_ns) {
    return refuse_return("somebody has changed since it left");
  }
  return {};
}

bool is_needed(const OwnerStamp& stamp) {
  return is_current(stamp.state) || stamp.state == StampState::kBase;
}

Status judge_base(const std::optional<OwnerStamp>& stamp, const Claimant& claimant) {
  if (!stamp && claimant.replaced) {
    return refuse_replaced(claimant, "it still fetches from");
  }
  if (!stamp) return {};
  const bool needed =
      stamp->state == StampState::kBase || stamp->state == StampState::kMoving ||
      stamp->state == StampState::kCurrent;  // the stamp after the decision could not be written
  const bool newer = stamp->epoch > claimant.epoch || stamp->incarnation > claimant.incarnation;
  if (is_mine(*stamp, claimant) && needed && !newer) return {};
  // On its way back into it, without a decision.
  const bool settles = stamp->state == StampState::kTaking && stamp->epoch == claimant.epoch + 1;
  if (is_mine(*stamp, claimant) && settles) return {};
  return Error(ErrorCode::kPrecondition, "disk '" + claimant.disk + "' still fetches from image " +
                                             claimant.image + ", but that " +
                                             describe_stamp(*stamp));
}

Status judge_force(const std::optional<OwnerStamp>& stamp, const std::string& image,
                   std::uint64_t epoch, const std::string& owner) {
  if (!stamp) {
    return Error(ErrorCode::kNotFound,
                 "image " + image + " is nobody's: there is nothing to force");
  }
  if (stamp->epoch == epoch && stamp->owner == owner) return {};
  return Error(ErrorCode::kPrecondition,
               "image " + image + " " + describe_stamp(*stamp) +
                   ": make sure that nobody writes to it any more, then repeat the owner and the "
                   "epoch: --epoch " +
                   std::to_string(stamp->epoch) + " --owner " + stamp->owner);
}

}  // namespace blockmig
