// SPDX-License-Identifier: Apache-2.0
// DiskService: adds disks to the daemon, takes them out, and says what they are doing.
// Thread rule: the loop. What it refers to outlives it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "blockmig/base/function_ref.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/job_board.h"
#include "nbdserver/server.h"
#include "tools/control/listen_record.h"
#include "tools/control/messages.h"
#include "tools/daemon/disk_rates.h"
#include "tools/daemon/disk_set.h"
#include "tools/daemon/log.h"
#include "tools/daemon/metrics.h"
#include "tools/daemon/source_choice.h"
#include "tools/daemon/store_owners.h"
#include "tools/daemon/store_reservations.h"
#include "tools/daemon/store_use.h"

namespace blockmig {

class RecordedDisks;
class RestartService;
class Takeover;
struct HandoverBitmap;

/// Where clients of a disk come from.
struct Listening {
  bool wanted = true;              ///< false: the listeners are on their way (Handover)
  bool wants_default = false;      ///< whatever others listen on already
  UnixSocketOptions unix_sockets;  ///< as recorded; what this daemon was told counts more
  /// Where the disk is to be served on what is open, if an address is not: which is not, and why.
  Status* missing = nullptr;
};

class DiskService final {
 public:
  /// `default_listen`: where to listen when a disk is added and nothing is listened on yet;
  /// empty: nowhere. `tls_required`: how `server` was made, for the URIs of the views.
  DiskService(IoLoop& loop, Journal& journal, DiskSet& disks, JobBoard& jobs, NbdServer& server,
              Log& log, std::string default_listen, bool tls_required = false)
      : loop_(loop),
        journal_(journal),
        disks_(disks),
        jobs_(jobs),
        server_(server),
        log_(log),
        default_listen_(std::move(default_listen)),
        tls_required_(tls_required),
        rates_(disks) {}

  /// Opens the store, records who owns the disk (before the first client can see it), shows the
  /// export, and only then listens on the request's addresses: a client that gets through finds it.
  /// After an error there is no lock and no disk of that name, and its record is what it was;
  /// an address that was opened on the way stays open, for the other disks.
  /// `handed_over`: not a request of somebody's, but a disk of a Takeover, with its bitmaps that
  /// are not recorded; they stay until the task has finished.
  Task<Result<DiskView>> serve(ServeRequest request, Listening listening = {},
                               const std::vector<HandoverBitmap>* handed_over = nullptr);
  /// The same for somebody who asks for it: what a restart tries itself makes room.
  Task<Result<DiskView>> serve_by_hand(ServeRequest request);
  /// Cuts the disk's clients, flushes and closes its store; one that is late is not waited for any
  /// more. kBusy while it is being migrated. Its record stays: a later serve() finds the content
  /// where it is. With `forget`, the record goes too, also that of a disk that is not served.
  Task<Status> detach(std::string name, bool forget);
  /// On those that are not listened on yet; with none at all, or if it is wanted, on the default.
  /// One that fails keeps no other from being opened; the error names all that did.
  Status listen(const std::vector<std::string>& wanted, const UnixSocketOptions& recorded = {},
                bool wants_default = false);
  /// How the server listens, to be recorded with each disk, and where the user wants it to.
  void set_listening(const ListenRecord& own, std::vector<std::string> wanted) {
    own_listening_ = own;
    wanted_addresses_ = std::move(wanted);
  }
  /// kInvalid: a disk that was listened on like that would be there for others now, and nobody has
  /// asked for it.
  Status check_listening(const std::vector<std::string>& addresses,
                         const ListenProtection& before) const;
  /// Asked for again, such a disk is simply there.
  void note_restored(const std::string& disk) { restored_.insert(disk); }
  /// Told of every disk before its first client and after; null: nobody is.
  void set_restarts(RestartService* restarts) { restarts_ = restarts; }
  /// Told of every job that fetches the rest of a disk, whoever began it; none: nobody is.
  void set_follower(std::function<void(const std::string& job)> follow) {
    follow_ = std::move(follow);
  }
  /// Whose disks are on their way still; null: nobody's.
  void set_takeover(Takeover* takeover) { takeover_ = takeover; }
  void set_recorded(RecordedDisks* recorded) { recorded_ = recorded; }
  /// Whose stamps the stores of disks get; null: nobody's.
  void set_owners(StoreOwners* owners) { owners_ = owners; }

  /// Fetches what a disk has at rest in a folder until its own store is whole, and lets the folder
  /// go; a restart goes on with it. The job's id. kPrecondition: it is whole already.
  Task<Result<std::string>> settle(const std::string& name);

  DiskView view(ServedDisk& disk) const;
  std::vector<DiskView> views() const;
  std::vector<ClientView> clients() const;
  std::vector<std::string> addresses() const;
  /// What a scrape shows of disks and the server; the rest of the snapshot is the caller's.
  void add_metrics(MetricsSnapshot& snapshot) const;
  /// Wants a sample() now and then.
  DiskRates& rates() { return rates_; }

  Result<std::vector<BitmapView>> bitmaps(const std::string& disk) const;
  // Arguments stay until the task has finished.
  Task<Status> add_bitmap(const std::string& disk, const BitmapSpec& spec);
  Task<Status> remove_bitmap(const std::string& disk, const std::string& bitmap);
  /// As BitmapKeeper::merge().
  Task<Status> merge_bitmaps(const std::string& disk, const std::string& target,
                             const std::vector<std::string>& sources);

  /// Every store that a disk lives on or is not whole without, that a running job writes to, or
  /// that is reserved, but not those of `except`; `its_base_too`: but the one that it is not whole
  /// without. Who takes one that is not among them reserves it, with no await in between.
  std::vector<StoreUse> uses(const std::string& except, bool its_base_too = false) const {
    return uses_if(except, its_base_too, [](const std::string&, bool) { return true; });
  }
  StoreReservations& reserved() { return reserved_; }
  /// A daemon whose moves go to ever new files does not remember all of them.
  void forget_unused_stores();
  /// Of an NBD store that has just been opened, to be the store of `disk` or a move's target. By
  /// what its server says it is: kPrecondition: it is, by another address, that disk itself or its
  /// store, or where one of `lives` is; kBusy: what another disk or job uses. Else it is known as
  /// in use. The arguments stay until the task has finished.
  Task<Status> check_alias(const StoreUri& wanted, const BlockDevice& device,
                           const std::string& disk, const std::vector<DiskLife>& lives);
  /// kBusy: it is on its way in still, or a move of an earlier daemon is to go on first.
  Status check_settled(const std::string& disk) const;
  /// Returns when check_settled() has no objection, or a moment later: for commands to a disk that
  /// has been seen already. `disk` stays until the task has finished.
  Task<void> wait_settled(const std::string& disk);
  /// As settle(), of a disk that may begin with it now.
  Result<std::shared_ptr<ServedDisk>> find_unsettled(const std::string& name) const;
  /// Why a disk that was served before is not served yet; empty: nothing is known of that.
  std::string why_late(const std::string& disk) const;
  /// Where disks live that are not served, by the journal, and what they are not whole without.
  /// Without `disk`, which stays until the task has finished.
  Task<Result<std::vector<DiskLife>>> lives_of_others(const std::string& disk);

 private:
  /// The same, of those whose URI `matters`: with thousands of disks each has a look. `coming`: as
  /// StoreUse.
  std::vector<StoreUse> uses_if(
      const std::string& except, bool its_base_too,
      FunctionRef<bool(const std::string& uri, bool coming)> matters) const;
  Status check_parts(const StoreUri& uri, const std::vector<StorePart>& parts) const;
  Task<void> ask_again(const StoreUri& wanted, const std::vector<DiskLife>& lives);
  Task<void> ask(StoreUri store);
  Status compare(const StoreUri& wanted, const Identities& identities, const std::string& disk,
                 const std::vector<DiskLife>& lives) const;
  Task<Result<SourceChoice>> choose(const ServeRequest& request);
  using Holds = std::vector<StoreReservations::Hold>;
  /// Arguments stay until the task has finished.
  Task<Result<DiskView>> serve_chosen(const ServeRequest& request, SourceChoice& choice,
                                      Listening listening,
                                      const std::vector<HandoverBitmap>* handed_over, Holds& holds);
  Task<void> note_created(const BlockDevice& store, SourceChoice& choice);
  /// It would be in the way of the next try, and nobody knows that there is nothing in it.
  Task<void> remove_created(const SourceChoice& choice);
  /// What it opens is reserved in `holds`.
  Task<Result<std::unique_ptr<BlockDevice>>> open_source(const ServeRequest& request,
                                                         const SourceChoice& choice, Holds& holds);
  Task<Status> take_source(const ServeRequest& request, const SourceChoice& choice,
                           const StoreUri& uri, Holds& holds);
  Task<Result<std::unique_ptr<BlockDevice>>> open_disk_store(const ServeRequest& request,
                                                             const StoreUri& uri);
  Task<void> warn_of_format(BlockDevice& file, const std::string& disk);
  Task<Result<std::unique_ptr<BlockDevice>>> fit_source(std::unique_ptr<BlockDevice> device,
                                                        const ServeRequest& request,
                                                        const SourceChoice& choice);
  /// The layer that fetches what is still in the base; the source itself where nothing is.
  Task<Result<std::unique_ptr<BlockDevice>>> open_rest(const ServeRequest& request,
                                                       const SourceChoice& choice,
                                                       std::unique_ptr<BlockDevice> source,
                                                       Holds& holds);
  Task<Result<std::unique_ptr<BlockDevice>>> open_layer(const ServeRequest& request,
                                                        const SourceChoice& choice,
                                                        std::unique_ptr<BlockDevice>& source,
                                                        std::unique_ptr<BlockDevice>& base,
                                                        Holds& holds);
  Task<Result<std::unique_ptr<BlockDevice>>> open_base(const ServeRequest& request,
                                                       const SourceChoice& choice,
                                                       const HydrationRecord& rest, Holds& holds);
  /// Makes the opened source ours, at the epoch that the disk is to have; closes it if it is not to
  /// be had. After an error of what follows: give_back().
  Task<Status> claim(const ServeRequest& request, SourceChoice& choice,
                     std::unique_ptr<BlockDevice>& source, StoreOwners::Claim& claim);
  Task<void> warn_of_mixture(const ServeRequest& request, const SourceChoice& choice);
  void give_rest_up(const std::string& disk, SourceChoice& choice);
  Task<Status> check_base(const HydrationRecord& rest, std::uint64_t epoch);
  Task<void> give_back(const SourceChoice& choice, StoreOwners::Claim claim);
  Task<void> trust(const std::string& disk, const SourceChoice& choice,
                   const StoreOwners::Claim& claim);
  /// Goes on with the hydration of a disk that was opened in the middle of it.
  Task<void> hydrate(std::shared_ptr<ServedDisk> disk);
  Task<void> leave_bases(std::shared_ptr<ServedDisk> disk);
  Task<void> finish_manifests(std::shared_ptr<ServedDisk> disk,
                              const std::vector<std::string>& bases);
  /// A disk that a restart has served already, if the request asks for the same, maybe at more
  /// addresses. One that is wanted otherwise goes, if nobody uses it: `made_room` is what it was.
  Task<Result<std::shared_ptr<ServedDisk>>> find_restored(const ServeRequest& request,
                                                          UnixSocketOptions recorded,
                                                          std::optional<ServeRequest>& made_room);
  /// As serve(), of a disk that is not there.
  Task<Result<DiskView>> serve_anew(ServeRequest request, Listening listening,
                                    const std::vector<HandoverBitmap>* handed_over);
  enum class Afterwards : std::uint8_t { kNotServed, kForgotten, kServedAgain };
  /// As detach(), of a disk that is there; what it is `then` for a restart.
  Task<Status> take_away(std::string name, Afterwards then);
  /// What a restart serves the disk again with.
  Task<void> remember(const ServeRequest& request, UnixSocketOptions recorded);
  Task<Result<std::string>> fetch_rest(std::shared_ptr<ServedDisk> disk, bool paused, bool begins);
  Task<Status> publish(const ServeRequest& request, const SourceChoice& choice,
                       std::shared_ptr<ServedDisk> disk, Listening listening);
  /// `same`: the store's content is what the journal knows.
  Task<Status> open_bitmaps(ServedDisk& disk, const SourceChoice& choice, bool same,
                            const std::vector<BitmapSpec>& transient);
  bool give_up_late(const std::string& name);
  Task<Status> forget_unserved(const std::string& name);
  /// A restart does not serve it.
  Task<Status> forget_serving(const std::string& name);
  /// Its record and all that belongs to it, and its stamp, if it has ended in order there.
  Task<Status> forget_records(const std::string& name, const std::string& store_uri);
  Task<Status> restore_record(const std::string& disk, const std::optional<DiskRecord>& before);

  IoLoop& loop_;
  Journal& journal_;
  DiskSet& disks_;
  JobBoard& jobs_;
  NbdServer& server_;
  Log& log_;
  std::string default_listen_;
  bool tls_required_;
  ListenRecord own_listening_;
  std::vector<std::string> wanted_addresses_;
  UnixSocketOptions shared_sockets_;  ///< of earlier daemons, as recorded with the disks on them
  DiskRates rates_;
  RestartService* restarts_ = nullptr;
  Takeover* takeover_ = nullptr;
  RecordedDisks* recorded_ = nullptr;
  StoreOwners* owners_ = nullptr;
  std::function<void(const std::string& job)> follow_;
  std::set<std::string> restored_;
  std::set<std::string> arriving_;  ///< published, and not all of it taken up yet
  StoreReservations reserved_;
};

std::vector<BitmapView> bitmap_views(const ServedDisk& disk);
/// kInvalid: no disk of that size could have them; 0 where the size is not known yet.
Status check_new_bitmaps(const std::vector<BitmapSpec>& specs, std::uint64_t size_bytes);
/// Before its first client. Not `same`: what they missed is not known, and they are left out.
Status add_handed_over_bitmaps(ServedDisk& disk, const std::vector<HandoverBitmap>& bitmaps,
                               bool same, Log& log);
/// In memory only, whatever the specifications say. kBusy: there is one of that name.
Status add_transient_bitmaps(ServedDisk& disk, const std::vector<BitmapSpec>& specs);

}  // namespace blockmig
