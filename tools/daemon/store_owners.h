// SPDX-License-Identifier: Apache-2.0
// StoreOwners: the stamps beside the images that this daemon uses (blockmig/journal/owner_stamp.h).
//
//   claim()      before a disk's first client: its store is ours, or the serving is refused
//   trust()      once the journal says so
//   release()    after its store was closed in order: whoever wants it may have it
//   claim_target(), announce(), confirm() or withdraw()    the steps of a move
//
// Only regular files have stamps. Where a folder takes none (it is read-only, or not ours to write
// to), serving goes on without one and says so: refusing would make images unusable that no other
// daemon could stamp either. A medium that fails is an error where nothing has been promised yet
// (claim, claim_target); afterwards it is a warning: the journal decides, and a move off a failing
// disk must not fail with that disk. Thread rule: the loop. What it refers to outlives it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "blockmig/base/uri.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/journal/journal.h"
#include "blockmig/journal/owner_file.h"
#include "blockmig/journal/owner_rules.h"
#include "tools/daemon/log.h"
#include "tools/daemon/source_choice.h"

namespace blockmig {

class BitmapKeeper;

class StoreOwners final {
 public:
  /// `place`: where this daemon's state is, for others' messages. `keeps_state`: false for a
  /// one-shot copy, whose stamps go with it.
  StoreOwners(IoLoop& loop, Journal& journal, Log& log, std::string place, bool keeps_state)
      : loop_(loop),
        journal_(journal),
        log_(log),
        place_(std::move(place)),
        keeps_state_(keeps_state) {}

  /// Reads the state folder's identity, or makes it. Before everything else.
  Task<Status> open();
  const std::string& id() const { return id_; }
  Claimant claimant(const std::string& disk, const StoreUri& store, std::uint64_t epoch) const;

  struct Claim {
    ServeVerdict verdict;
    bool judged = false;   ///< by the stamp, or because there is none; else nothing is known
    bool guarded = true;   ///< false: nothing there would say that somebody else has used it
    bool stamped = false;  ///< to be given back
    std::optional<OwnerStamp> before;
  };
  /// The store is open, and so locked by its device. kPrecondition as judge_serve().
  Task<Result<Claim>> claim(const ServeRequest& request, const StoreUri& store,
                            const SourceChoice& choice);
  /// Before a job of a disk that is served: who has a copy of the journal from before it shall not
  /// pass for us. `disk` and `store` stay until the task has finished.
  Task<void> renew(const std::string& disk, const StoreUri& store);
  /// After a claim that was not `continued`, and is in the journal: what the journal records of the
  /// store is believed from now on. Until then a crash must not make it so: what it had recorded
  /// before is still there.
  Task<void> trust(const std::string& disk, const StoreUri& store);
  /// What the journal records of the disk is not to be believed any more, which the journal itself
  /// cannot say. kPrecondition: its store has no stamp.
  Task<Status> distrust(const std::string& disk, const StoreUri& store);
  /// What the journal records of a move of that disk to `target` is not to be believed any more,
  /// likewise: it is of an earlier use of the target from now on.
  Task<Status> distrust_target(const std::string& disk, const StoreUri& target);
  /// A claim that came to nothing.
  Task<void> give_back(const StoreUri& store, Claim claim);
  /// What the disk lived on before its journal said otherwise, if a crash has kept it from being
  /// told. `needed`: the disk still fetches from there.
  /// `record`: record_token() of what has changed since it is where it is.
  Task<void> settle_previous(const std::string& disk, const SourceChoice& now, bool needed,
                             std::uint64_t record);
  /// The base of a disk's hydration, before it is opened. As judge_base(); one `at_rest` has
  /// digests that say whether it is what it was.
  Task<Status> check_base(const std::string& disk, const StoreUri& base, std::uint64_t epoch,
                          bool at_rest);
  Task<void> release(const std::string& disk, const std::string& store_uri);
  /// The disk is not known here any more.
  Task<void> forget(const std::string& disk, const std::string& store_uri);

  struct Move {
    std::string disk;
    StoreUri source;
    StoreUri target;
    std::uint64_t epoch = 0;   ///< of the disk at its target
    bool returning = false;    ///< to the store that it has left, which must be as it was left
    bool resumed = false;      ///< after a restart
    bool settling = false;     ///< into the image that the disk fetches from
    std::uint64_t record = 0;  ///< of a return: record_token() of what has changed since
  };
  /// The target is open. The token of this use of it; 0: it has no stamp.
  Task<Result<std::uint64_t>> claim_target(const Move& move);
  /// As judge_return(). Blocks.
  Status check_return(const Move& move) const;
  /// A move back that came to nothing: the image is left as it is now.
  Task<void> leave_again(const Move& move);
  /// Of the base of a disk that is about to go back into it. As judge_base(). Blocks.
  Status check_merge(const Move& move) const;
  /// The base is as it was when the disk left it, by its stamp.
  Task<bool> is_as_left(const std::string& disk, const StoreUri& base, std::uint64_t size_bytes,
                        std::int64_t modified_ns) const;
  /// Its stamp says that it is another disk's, or another daemon's.
  Task<bool> is_another_ones(const std::string& disk, const StoreUri& store) const;
  /// An error: the target has a stamp, which cannot be made to say that the disk may live there.
  Task<Status> announce(const Move& move);
  /// `record`: record_token() of what changes after it.
  Task<void> confirm(const Move& move, bool source_needed, std::uint64_t record);
  Task<void> withdraw(const Move& move);
  /// The target's stamp goes: the target has gone, or is a copy that belongs to nobody.
  Task<void> drop_target(const Move& move);
  /// A move to `target_uri` ended with its daemon, before its decision, and will not go on: what is
  /// there is an unfinished copy, also where it was about to become the owner.
  Task<void> leave_unfinished(const std::string& disk, const std::string& target_uri);
  /// The disk, which is at `store_uri`, does not fetch from its old store any more.
  Task<void> leave_base(const std::string& disk, const std::string& base_uri);
  Task<void> note_whole(const std::string& disk, const std::string& store_uri);

  /// "stamped", or why a store has no stamp.
  std::string describe(const std::string& store_uri) const;

 private:
  std::uint64_t incarnation(const std::string& disk) const;
  /// The disk's next incarnation, also after `beyond`, is in the journal.
  Task<Status> advance(const std::string& disk, std::uint64_t beyond);
  /// The disk's stamp has come as far as its incarnation: the journal says so. Trouble is logged.
  Task<void> note_stamped(const std::string& disk);
  /// There is no stamp, but one of another file of that name, which was the disk's.
  Task<bool> is_replaced(const std::string& disk, const std::string& path) const;
  /// Judges again, and stamps. As change_stamp().
  Task<Status> take(Claimant who, const StoreUri& store, std::string rest_uri, Claim& claim);
  OwnerStamp make_stamp(StampState state, const std::string& disk, std::uint64_t epoch,
                        const std::string& other_uri) const;
  Result<std::optional<OwnerStamp>> claim_base(const std::optional<OwnerStamp>& stamp,
                                               const Move& move) const;
  static bool has_stamps(const StoreUri& store);
  /// One of the reasons for which a store goes without a stamp.
  static bool is_unstampable(const Error& error);
  static bool is_of(const std::optional<OwnerStamp>& stamp, const std::string& owner,
                    const std::string& disk);
  /// The disk lives there before that move: also where it is served read-only, which leaves its
  /// stamp `released`, or none.
  bool is_source_of(const std::optional<OwnerStamp>& stamp, const Move& move) const;
  using Condition = std::function<bool(const OwnerStamp& stamp)>;
  using Change =
      std::function<std::optional<OwnerStamp>(const OwnerStamp& stamp, const std::string& path)>;
  /// What the change makes of the store's stamp takes its place, where it is the disk's and the
  /// condition holds. Trouble is logged.
  Task<void> change_if(const std::string& store_uri, const std::string& disk, Condition applies,
                       Change change);
  /// kPrecondition: what was to be changed still says `target`.
  Task<Status> check_not_target(const StoreUri& store);
  /// As change(); a store that has gone or takes no stamp is no error.
  Task<Status> change_if_stampable(const StoreUri& store, const std::string& disk,
                                   StampChange change);
  /// A change that nothing waits for: trouble is logged.
  Task<void> change_quietly(const StoreUri& store, const std::string& disk, StampChange change);
  Task<Result<std::optional<OwnerStamp>>> change(const StoreUri& store, StampChange change);
  void note_unstamped(const StoreUri& store, const Error& why, const std::string& disk);

  IoLoop& loop_;
  Journal& journal_;
  Log& log_;
  std::string place_;
  bool keeps_state_;
  std::string id_;
  std::map<std::string, std::string> unstamped_;       ///< why, by path
  std::map<std::string, std::uint64_t> incarnations_;  ///< of disks, as in the journal
  std::map<std::string, std::uint64_t> stamped_;       ///< likewise: those that stamps have had
};

/// The journal's, of how often a disk was served or a job of it begun.
NoteRecord incarnation_note(const std::string& disk, std::uint64_t incarnation);
/// The journal's, of the latest of them that a stamp has had.
NoteRecord stamped_note(const std::string& disk, std::uint64_t incarnation);

/// The token that the record of changes since `epoch` shares with the stamp of the store that was
/// left then. 0: there is no record, or it is of an older program.
std::uint64_t record_token(const BitmapKeeper& bitmaps, std::uint64_t epoch);

/// "HOST:FOLDER".
std::string place_of(const std::string& state_dir);

}  // namespace blockmig
