// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/disk_service.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/uri.h"
#include "blockmig/block/open_store.h"
#include "blockmig/io/offload.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/hydration.h"
#include "tools/control/json.h"
#include "tools/daemon/backup_file.h"
#include "tools/daemon/folder_merge.h"
#include "tools/daemon/image_identity.h"
#include "tools/daemon/recorded_disks.h"
#include "tools/daemon/restart_service.h"
#include "tools/daemon/takeover.h"

namespace blockmig {

namespace {

/// But for where it listens, which may be more.
bool is_wanted_as(const ServeRequest& wanted, const ServeRequest& before) {
  return wanted.read_only == before.read_only && wanted.bitmaps.empty() &&
         wanted.cache == before.cache && wanted.description == before.description;
}

ServeRequest with_addresses(ServeRequest request, const std::vector<std::string>& more) {
  std::vector<std::string>& all = request.listen;
  for (const std::string& address : more) {
    if (std::find(all.begin(), all.end(), address) == all.end()) all.push_back(address);
  }
  return request;
}

}  // namespace

Task<Result<std::shared_ptr<ServedDisk>>> DiskService::find_restored(
    const ServeRequest& request, UnixSocketOptions recorded,
    std::optional<ServeRequest>& made_room) {
  const auto disk = disks_.get(request.disk);
  if (!disk || !restored_.contains(request.disk)) {
    co_return Error(ErrorCode::kNotFound, "not restored");
  }
  const Result<SourceChoice> choice = co_await choose(request);
  if (!choice) co_return choice.error();
  const ServeRequest before = (*disk)->request();
  if (!choice->known || !is_wanted_as(request, before)) {
    // It is wanted in another way than before. Nobody has asked for it yet, so it makes room,
    // unless its clients have come back or its job goes on: then the caller hears that it is there.
    if (view(**disk).clients == 0) {
      std::string name = request.disk;
      const Status left = co_await take_away(std::move(name), Afterwards::kServedAgain);
      if (left) made_room = before;
    }
    co_return Error(ErrorCode::kNotFound, "served otherwise");
  }
  const Status opened = listen(request.listen);
  if (!opened) co_return opened.error();
  restored_.erase(request.disk);
  const std::shared_ptr<ServedDisk> served = *disk;
  const ServeRequest together = with_addresses(before, request.listen);
  served->remember(together);
  if (together.listen != before.listen) co_await remember(together, recorded);
  co_return served;
}

Task<Result<DiskView>> DiskService::serve_by_hand(ServeRequest request) {
  if (recorded_ == nullptr) {
    Result<DiskView> alone = co_await serve(std::move(request));
    co_return std::move(alone);
  }
  const std::string name = request.disk;
  recorded_->hold(name);
  const bool quiet = co_await recorded_->wait_for_try(name);
  static_cast<void>(quiet);  // of one that hangs the name is taken, which is what the caller hears
  Result<DiskView> served = co_await serve(std::move(request));
  recorded_->let_go(name, served.ok());
  co_return std::move(served);
}

Task<Result<DiskView>> DiskService::serve(ServeRequest request, Listening listening,
                                          const std::vector<HandoverBitmap>* handed_over) {
  std::optional<ServeRequest> made_room;
  const auto restored = co_await find_restored(request, listening.unix_sockets, made_room);
  if (restored) co_return view(**restored);
  if (restored.error().code() != ErrorCode::kNotFound) co_return restored.error();
  const std::string name = request.disk;
  Result<DiskView> served = co_await serve_anew(std::move(request), listening, handed_over);
  if (served || !made_room) co_return std::move(served);
  // What is refused changes nothing.
  const Result<DiskView> again = co_await serve_anew(*std::move(made_room), listening, nullptr);
  if (again) note_restored(name);
  co_return served.error();
}

Task<Result<DiskView>> DiskService::serve_anew(ServeRequest request, Listening listening,
                                               const std::vector<HandoverBitmap>* handed_over) {
  if (handed_over == nullptr && takeover_ != nullptr && takeover_->is_late(request.disk)) {
    co_return Error(ErrorCode::kBusy, "disk '" + request.disk +
                                          "' is being added already: its clients wait for its "
                                          "store, or for you to detach it");
  }
  // Before a file is created.
  const Status bitmaps = check_new_bitmaps(request.bitmaps, request.create_size_bytes);
  if (!bitmaps) co_return bitmaps.error();
  const auto reservation = disks_.reserve(request.disk);
  if (!reservation) co_return reservation.error();
  Result<SourceChoice> choice = co_await choose(request);
  if (!choice) co_return choice.error();
  Holds holds;
  Result<DiskView> view = co_await serve_chosen(request, *choice, listening, handed_over, holds);
  if (!view) co_await remove_created(*choice);
  co_return std::move(view);
}

Task<Result<DiskView>> DiskService::serve_chosen(const ServeRequest& request, SourceChoice& choice,
                                                 Listening listening,
                                                 const std::vector<HandoverBitmap>* handed_over,
                                                 Holds& holds) {
  // What is absent is pulled into the store, whatever clients may do.
  ServeRequest opening = request;
  if (!choice.hydration.empty()) opening.read_only = false;
  Result<std::unique_ptr<BlockDevice>> source = co_await open_source(opening, choice, holds);
  if (!source) co_return source.error();
  std::unique_ptr<BlockDevice> store = *std::move(source);
  if (request.create_size_bytes != 0) co_await note_created(*store, choice);
  StoreOwners::Claim claimed;
  const Status ours = co_await claim(opening, choice, store, claimed);
  if (!ours) co_return ours.error();
  Result<std::unique_ptr<BlockDevice>> opened =
      co_await open_rest(opening, choice, std::move(store), holds);
  if (!opened) {
    co_await give_back(choice, std::move(claimed));
    co_return opened.error();
  }
  auto disk =
      std::make_unique<Disk>(loop_, request.disk, *std::move(opened), choice.uri, choice.epoch);
  auto served = std::make_shared<ServedDisk>(std::move(disk), journal_, request.description,
                                             request.read_only, choice.previous_uri);
  served->remember(request);
  if (owners_ != nullptr) served->identify(disk_identity(owners_->id(), request.disk));
  Status published;
  // Whoever has had the image since, or put another one in its place, has not marked anything.
  const bool same = choice.known && (!claimed.judged || claimed.verdict.continued);
  const bool told = same && claimed.guarded;
  if (restarts_ != nullptr) published = co_await restarts_->prepare(served->disk(), told);
  if (published) published = co_await open_bitmaps(*served, choice, same, request.bitmaps);
  if (published && handed_over != nullptr) {
    published = add_handed_over_bitmaps(*served, *handed_over, same, log_);
  }
  if (published) published = co_await publish(request, choice, served, listening);
  if (!published) {
    if (restarts_ != nullptr) co_await restarts_->withdrawn(served->disk());
    const Status closed = co_await served->close();
    if (!closed) log_.error(closed.error().message(), {request.disk, "", choice.epoch});
    co_await give_back(choice, std::move(claimed));
    co_return published.error();
  }
  if (owners_ != nullptr) {
    const bool needed = !choice.hydration.empty();
    const std::uint64_t record = record_token(served->bitmaps(), choice.epoch);
    co_await owners_->settle_previous(request.disk, choice, needed, record);
  }
  if (restarts_ != nullptr) co_await restarts_->end_return(*served);
  co_await trust(request.disk, choice, claimed);
  log_.info("serving " + choice.uri, {request.disk, "", choice.epoch});
  co_await hydrate(served);
  co_await remember(request, listening.unix_sockets);
  if (restarts_ != nullptr) restarts_->published(request.disk);
  arriving_.erase(request.disk);
  co_return view(*served);
}

/// Before its first client, and before the record says that the disk is another: bitmaps that were
/// recorded of what it was before must not be believed.
Task<Status> DiskService::open_bitmaps(ServedDisk& disk, const SourceChoice& choice, bool same,
                                       const std::vector<BitmapSpec>& transient) {
  const std::string uri = choice.uri;
  offload look(loop_, [&uri] { return image_identity(uri); });
  std::string identity = co_await look;
  const Status opened = co_await disk.bitmaps().open(same, std::move(identity));
  if (!opened) co_return opened.error().with_context("the bitmaps of disk '" + disk.name() + "'");
  for (const BitmapFacts& facts : disk.bitmaps().bitmaps()) {
    if (facts.inconsistent.empty()) continue;
    log_.warning("bitmap '" + facts.name + "' is inconsistent: " + facts.inconsistent,
                 {disk.name(), "", choice.epoch});
  }
  co_await drop_other_records(disk.bitmaps(), choice.epoch);
  co_return add_transient_bitmaps(disk, transient);
}

Task<Result<SourceChoice>> DiskService::choose(const ServeRequest& request) {
  const Result<std::optional<DiskRecord>> record = co_await journal_.load_disk(request.disk);
  if (!record) co_return record.error();
  bool same = false;
  if (record->has_value() && !request.source.empty()) {
    const Result<StoreUri> asked = parse_store_uri(request.source);
    const Result<StoreUri> known = parse_store_uri((*record)->store_uri);
    if (!asked) co_return asked.error();
    if (known.ok()) {
      const bool equal =
          co_await offload(loop_, [&asked, &known] { return same_store(*asked, *known); });
      same = equal;
    }
  }
  co_return choose_source(request, *record, same);
}

Task<void> DiskService::remember(const ServeRequest& request, UnixSocketOptions recorded) {
  JournalBatch batch;
  const std::string topic = kListenTopic;
  const auto note = co_await journal_.load_note(topic, request.disk);
  if (note.ok() && note->has_value()) {
    const auto before = listen_record_from_json((*note)->text);
    // A disk that is handed over comes without them, and its sockets stay as they are.
    if (before && !recorded.mode && !recorded.gid) recorded = before->unix_sockets;
  }
  if (request.listen.empty()) {
    // It is served on what others have had opened, whose next opening is to be like this one.
    if (recorded.mode || recorded.gid) shared_sockets_ = recorded;
    recorded = shared_sockets_;
  }
  ListenRecord listening = own_listening_;
  if (!listening.unix_sockets.mode) listening.unix_sockets.mode = recorded.mode;
  if (!listening.unix_sockets.gid) listening.unix_sockets.gid = recorded.gid;
  batch.notes.push_back({kListenTopic, request.disk, to_json(listening)});
  batch.notes.push_back({"serve", request.disk, to_json(request)});
  const Status saved = co_await journal_.commit(batch);
  if (!saved) {
    log_.warning("a restart will not serve it again: " + saved.error().message(),
                 {request.disk, "", 0});
  }
}

Task<Status> DiskService::publish(const ServeRequest& request, const SourceChoice& choice,
                                  std::shared_ptr<ServedDisk> disk, Listening listening) {
  const Result<std::optional<DiskRecord>> before = co_await journal_.load_disk(request.disk);
  if (!before) co_return before.error();
  DiskRecord record;
  record.disk = request.disk;
  record.store_uri = choice.uri;
  record.epoch = choice.epoch;
  record.size_bytes = disk->disk().info().size_bytes;
  record.previous_uri = choice.previous_uri;
  record.hydration = choice.hydration;
  Status allowed;
  if (recorded_ != nullptr) allowed = co_await recorded_->wait_for_earlier(request.disk);
  if (!allowed) co_return allowed;
  // Before the first client can be acknowledged anything (I3, I7).
  const Status saved = co_await journal_.save_disk(record);
  if (!saved) co_return saved.error().with_context("cannot record disk '" + request.disk + "'");
  // The disk first, and no await in between: whoever finds an address open finds the disk there.
  disks_.add(std::move(disk));
  arriving_.insert(request.disk);
  Status listens;
  if (listening.wanted) {
    listens = listen(request.listen, listening.unix_sockets, listening.wants_default);
  }
  if (listening.missing != nullptr) *listening.missing = std::exchange(listens, Status());
  if (listens.ok()) co_return Status();
  disks_.withdraw(request.disk);
  arriving_.erase(request.disk);
  const Status undone = co_await restore_record(request.disk, *before);
  if (!undone) {
    log_.error("cannot put back its record: " + undone.error().message(), {request.disk, "", 0});
  }
  co_return listens;
}

Task<Status> DiskService::restore_record(const std::string& disk,
                                         const std::optional<DiskRecord>& before) {
  if (before) {
    const Status saved = co_await journal_.save_disk(*before);
    co_return saved;
  }
  const Status removed = co_await journal_.remove_disk(disk);
  co_return removed;
}

Status DiskService::listen(const std::vector<std::string>& wanted,
                           const UnixSocketOptions& recorded, bool wants_default) {
  std::vector<std::string> missing;
  const std::vector<std::string> present = addresses();
  const std::string usual = "unix:" + default_listen_;
  const bool there = std::find(present.begin(), present.end(), usual) != present.end();
  // Who has said where to listen wants it there alone, once all is there.
  const bool needed =
      wanted.empty() && wanted_addresses_.empty() && (present.empty() || (wants_default && !there));
  if (needed && !default_listen_.empty()) missing.push_back(usual);
  for (const std::string& text : wanted) {
    const Result<SocketAddress> address = SocketAddress::parse(text);
    if (!address) return address.error();
    if (!server_.listens_on(*address)) missing.push_back(address->to_string());
  }
  Status all;
  for (const std::string& text : missing) {
    const Result<SocketAddress> address = SocketAddress::parse(text);
    if (!address) return address.error();
    const Status listening = server_.listen(*address, recorded);
    if (listening) {
      log_.info("listening on " + server_.addresses().back().to_string());
    } else if (all.ok()) {
      all = listening;
    } else {
      all = Error(all.error().code(), all.error().message() + "; " + listening.error().message());
    }
  }
  return all;
}

Task<Status> DiskService::detach(std::string name, bool forget) {
  const auto disk = disks_.get(name);
  if (!disk && give_up_late(name)) {
    const Status left = co_await forget_serving(name);
    if (!left.ok() || !forget) co_return left;
    bool quiet = true;
    if (recorded_ != nullptr) quiet = co_await recorded_->wait_for_try(name);
    if (!quiet) {
      co_return Error(ErrorCode::kBusy, "disk '" + name +
                                            "' is not waited for any more, but not forgotten: its "
                                            "store has not answered yet: try again when it has");
    }
  }
  if (!disk && forget) {
    const Status forgotten = co_await forget_unserved(name);
    const bool unknown = !forgotten && forgotten.error().code() == ErrorCode::kNotFound;
    co_return unknown ? disk.error() : forgotten;
  }
  if (!disk) co_return disk.error();
  const Afterwards then = forget ? Afterwards::kForgotten : Afterwards::kNotServed;
  const Status left = co_await take_away(std::move(name), then);
  co_return left;
}

Task<Status> DiskService::take_away(std::string name, Afterwards then) {
  const bool forget = then == Afterwards::kForgotten;
  if (disks_.get(name).ok()) co_await wait_settled(name);
  const auto disk = disks_.get(name);
  if (!disk) co_return disk.error();
  const Status settled = check_settled(name);
  if (!settled) co_return settled;
  const std::string job = jobs_.job_of(name);
  const Result<JobStatus> running = jobs_.status(job);
  const bool hydrating = running.ok() && running->phase == Phase::kHydrating;
  // The device is asked: with data at rest no job need be running.
  const auto* const layer = hydrating_layer((*disk)->disk());
  if (forget && (hydrating || (layer != nullptr && !layer->whole()))) {
    co_return Error(ErrorCode::kPrecondition,
                    "disk '" + name + "' is not whole at " + (*disk)->disk().store_uri() +
                        " yet: what is missing there would be lost with its record: " +
                        (hydrating ? ways_on(name, running->source_uri)
                                   : "'blockmig settle " + name + "' first"));
  }
  if (!job.empty() && !hydrating) co_return jobs_.busy_with(name);
  for (const NbdClientInfo& client : server_.clients()) {
    if (client.export_name != name) continue;
    // It may have left by itself in the meantime.
    const Status cut = server_.disconnect(client.id);
    if (!cut && cut.error().code() != ErrorCode::kNotFound) co_return cut;
  }
  if (hydrating) {
    // It goes on when the disk is served again.
    jobs_.interrupt(job);
    const Result<JobStatus> ended = co_await jobs_.wait(job);
    static_cast<void>(ended);
    if (!jobs_.job_of(name).empty()) co_return jobs_.busy_with(name);
  }
  const std::uint64_t epoch = (*disk)->disk().epoch();
  const std::string store_uri = (*disk)->disk().store_uri();
  const Status removed = co_await disks_.remove(name);
  restored_.erase(name);
  const bool forgets = forget && removed.ok();
  log_.info(forgets ? "detached and forgotten" : "detached", {name, "", epoch});
  Status recorded;
  if (forgets) {
    recorded = co_await forget_records(name, store_uri);
  } else if (then == Afterwards::kNotServed) {
    recorded = co_await forget_serving(name);
  }
  if (!removed) {
    co_return removed.error().with_context("disk '" + name + "' is detached" +
                                           (forget ? ", but not forgotten" : "") +
                                           "; its store did not close in order");
  }
  co_return recorded;
}

}  // namespace blockmig
