// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/recorded_disks.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/units.h"
#include "blockmig/io/cancel.h"
#include "tools/control/json.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/handover.h"

namespace blockmig {
namespace {

constexpr BackOff kTryAgain{kReleasePoll, std::chrono::seconds(5)};

/// A server that comes up later, a filesystem that is mounted later, an image that is let go of.
/// What says that the store is not the disk's any more, or not what it was, no time heals.
bool may_heal(const Error& failure) {
  switch (failure.code()) {
    case ErrorCode::kIo:
    case ErrorCode::kNoSpace:
    case ErrorCode::kNotFound:
    case ErrorCode::kBusy:
    case ErrorCode::kTimedOut:
    case ErrorCode::kDisconnected:
    case ErrorCode::kNoMemory:
      return true;
    default:
      return false;
  }
}

/// `listening`: how the disk's sockets are to be opened again. A disk without a record was served
/// by a program that had none.
Status judge_listening(const DiskService& service, const ServeRequest& request,
                       const std::vector<NoteRecord>& notes, Listening& listening) {
  const auto note = std::find_if(notes.begin(), notes.end(), [&request](const NoteRecord& each) {
    return each.name == request.disk;
  });
  if (note == notes.end()) return {};
  const Result<ListenRecord> before = listen_record_from_json(note->text);
  if (!before) return before.error();
  listening.unix_sockets = before->unix_sockets;
  return service.check_listening(request.listen, before->protection);
}

}  // namespace

Task<void> RecordedDisks::serve_all(DiskService& service, std::vector<std::string> except) {
  const auto notes = co_await journal_.load_notes("serve");
  const auto listened = co_await journal_.load_notes(kListenTopic);
  known_ = true;
  if (!notes) {
    log_.error("cannot read which disks were served: " + notes.error().message());
    co_return;
  }
  if (!listened) {
    log_.error("cannot read how disks were listened on: " + listened.error().message());
    co_return;
  }
  if (leaving_.is_set()) co_return;
  for (const NoteRecord& note : *notes) {
    if (std::find(except.begin(), except.end(), note.name) != except.end()) continue;
    const Result<ServeRequest> wanted = serve_request_from_json(note.text);
    Coming& coming = coming_[note.name];
    if (wanted.ok()) coming.request = *wanted;
    coming.request.disk = note.name;
  }
  const auto first = std::find_if(notes->begin(), notes->end(), [this](const NoteRecord& each) {
    return coming_.contains(each.name);
  });
  if (first == notes->end()) co_return;
  const Result<ServeRequest> leading = serve_request_from_json(first->text);
  default_listener_ = service.addresses().empty() && leading.ok() && leading->listen.empty();
  const TimePoint arrive_by = loop_.now() + kPatience;
  in_order_by_ = loop_.now() + kOrderPatience;
  for (const NoteRecord& note : *notes) {
    if (!coming_.contains(note.name)) continue;
    std::vector<NoteRecord> its_own;
    std::copy_if(listened->begin(), listened->end(), std::back_inserter(its_own),
                 [&note](const NoteRecord& each) { return each.name == note.name; });
    auto bringing = bring(service, note, std::move(its_own));
    restoring_.spawn(std::move(bringing));
  }
  bool in_time = true;
  while (is_waited_for() && in_time && !leaving_.is_set()) {
    in_time = co_await changed_.wait_until(arrive_by);
  }
  if (leaving_.is_set()) co_return;
  for (const auto& [late, coming] : coming_) {
    if (coming.failure) continue;
    log_.warning("was served before, and is not yet: its store has not answered in " +
                     format_duration(kPatience) + ": it is served as soon as that does",
                 {late, "", 0});
  }
}

/// What has failed may be away for long.
bool RecordedDisks::is_waited_for() const {
  const auto has_not_failed = [](const auto& each) { return !each.second.failure; };
  return listening_ != 0 || std::any_of(coming_.begin(), coming_.end(), has_not_failed);
}

Task<void> RecordedDisks::bring(DiskService& service, NoteRecord note,
                                std::vector<NoteRecord> listened) {
  const Result<ServeRequest> wanted = serve_request_from_json(note.text);
  Listening listening;
  Status listens;
  listening.wants_default = default_listener_;
  listening.missing = &listens;
  const Status fits =
      wanted ? judge_listening(service, *wanted, listened, listening) : Status(wanted.error());
  if (!fits) {
    leave(note.name, fits.error());
    co_return;
  }
  ServeRequest request = *wanted;
  request.source.clear();  // the journal knows where it is by now
  request.create_size_bytes = 0;
  request.force_source = false;
  request.bitmaps.clear();  // they were memory: what they missed is not known
  ServeRequest asked = request;
  const bool there = co_await try_until_there(service, std::move(asked), listening);
  if (!there || listens) co_return;
  co_await listen_once_free(service, std::move(request), listening);
  --listening_;
  changed_.pulse();
}

Task<bool> RecordedDisks::try_until_there(DiskService& service, ServeRequest request,
                                          Listening listening) {
  const std::string name = request.disk;
  // The process before lets go of its images a moment after it is gone, if it was killed.
  const TimePoint in_time = loop_.now() + kReleasePatience;
  for (unsigned failures = 0;;) {
    while (by_hand_.contains(name) && !leaving_.is_set()) co_await changed_.wait();
    if (leaving_.is_set() || !coming_.contains(name)) co_return false;
    ServeRequest asked = request;
    const Result<bool> there = co_await try_once(service, std::move(asked), listening);
    if (there) co_return *there;
    if (leaving_.is_set() || !coming_.contains(name)) co_return false;
    const Error& failure = there.error();
    if (!may_heal(failure)) {
      leave(name, failure);
      co_return false;
    }
    note_failure(name, failure, in_time);
    const bool soon = !coming_[name].failure;
    const Duration pause = soon ? kReleasePoll : kTryAgain.after(failures++);
    const bool over = co_await leaving_.wait_until(loop_.now() + pause);
    if (over) co_return false;
  }
}

Task<Result<bool>> RecordedDisks::try_once(DiskService& service, ServeRequest request,
                                           Listening listening) {
  const std::string name = request.disk;
  trying_.insert(name);
  const Result<DiskView> view = co_await service.serve(std::move(request), listening);
  const bool wanted = coming_.contains(name);
  if (view.ok() && wanted) {
    service.note_restored(name);
    if (!*listening.missing) ++listening_;
    coming_.erase(name);
  } else if (view.ok()) {
    std::string unwanted = name;
    const Status detached = co_await service.detach(std::move(unwanted), false);
    if (!detached) log_.error(detached.error().message(), {name, "", 0});
  }
  trying_.erase(name);
  changed_.pulse();
  if (!view) co_return view.error();
  co_return wanted;
}

/// Once for each change. One that is let go of in time is not worth a word.
void RecordedDisks::note_failure(const std::string& disk, const Error& error, TimePoint in_time) {
  Coming& coming = coming_[disk];
  coming.held = true;
  const bool moment = error.code() == ErrorCode::kBusy && loop_.now() < in_time;
  const bool same = coming.failure && coming.failure->message() == error.message();
  if (!moment && !same) {
    coming.failure = error;
    log_.error("was served before, and is not served yet: " + error.message() +
                   ": it is tried again until it is there, or detached",
               {disk, "", 0});
  }
  changed_.pulse();
}

void RecordedDisks::leave(const std::string& disk, const Error& error) {
  log_.error("was served before, and is not now: " + error.message(), {disk, "", 0});
  coming_.erase(disk);
  refused_[disk] = error.message();
  changed_.pulse();
}

Task<void> RecordedDisks::listen_once_free(DiskService& service, ServeRequest request,
                                           Listening listening) {
  const std::string name = request.disk;
  const TimePoint until = loop_.now() + kReleasePatience;
  Status listens = *listening.missing;
  const auto is_taken = [&] { return !listens && listens.error().code() == ErrorCode::kBusy; };
  while (is_taken() && loop_.now() < until && !leaving_.is_set() && disks_.get(name).ok()) {
    co_await sleep_for(loop_, kReleasePoll);
    listens = service.listen(request.listen, listening.unix_sockets, listening.wants_default);
  }
  if (listens) co_return;
  log_.error("is served, but not everywhere where it was before: " + listens.error().message(),
             {name, "", 0});
}

Task<Status> RecordedDisks::wait_for_earlier(const std::string& disk) {
  const auto is_next = [this, &disk] {
    const auto next = std::find_if(coming_.begin(), coming_.end(), [&](const auto& each) {
      return each.first == disk || !each.second.held;
    });
    return next == coming_.end() || next->first == disk;
  };
  bool in_time = coming_.contains(disk);
  while (in_time && !leaving_.is_set() && !is_next()) {
    in_time = co_await changed_.wait_until(in_order_by_);
  }
  if (leaving_.is_set()) co_return Error(ErrorCode::kShutdown, "the daemon is stopping");
  if (trying_.contains(disk) && !coming_.contains(disk)) {
    co_return Error(ErrorCode::kCancelled, "it is not wanted any more");
  }
  co_return Status();
}

std::vector<ServeRequest> RecordedDisks::late() const {
  std::vector<ServeRequest> requests;
  for (const auto& [disk, coming] : coming_) requests.push_back(coming.request);
  return requests;
}

bool RecordedDisks::has_failed(const std::string& disk) const {
  const auto found = coming_.find(disk);
  return found != coming_.end() && found->second.failure;
}

std::vector<RefusedDisk> RecordedDisks::refused() const {
  std::vector<RefusedDisk> all;
  for (const auto& [disk, why] : refused_) all.push_back({disk, why});
  return all;
}

std::string RecordedDisks::failure_of(const std::string& disk) const {
  const auto refused = refused_.find(disk);
  if (refused != refused_.end()) return refused->second;
  return has_failed(disk) ? coming_.at(disk).failure->message() : std::string();
}

bool RecordedDisks::give_up(const std::string& disk) {
  if (coming_.erase(disk) + refused_.erase(disk) == 0) return false;
  log_.info("was served before, and is not waited for any more", {disk, "", 0});
  changed_.pulse();
  return true;
}

Task<bool> RecordedDisks::wait_for_try(const std::string& disk) {
  const TimePoint until = loop_.now() + kTryPatience;
  bool in_time = true;
  while (in_time && trying_.contains(disk)) in_time = co_await changed_.wait_until(until);
  co_return in_time;
}

void RecordedDisks::hold(const std::string& disk) { by_hand_.insert(disk); }

void RecordedDisks::let_go(const std::string& disk, bool served) {
  by_hand_.erase(by_hand_.find(disk));
  if (served) {
    coming_.erase(disk);
    refused_.erase(disk);
  }
  changed_.pulse();
}

void RecordedDisks::finish() {
  leaving_.set();
  changed_.pulse();
}

}  // namespace blockmig
