// SPDX-License-Identifier: Apache-2.0
// The end in order of a daemon's engine, which ends whatever hangs: see shut_down().
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "blockmig/io/cancel.h"
#include "tools/daemon/engine.h"

namespace blockmig {
namespace {

/// How long clients' requests may take to finish before their connections are cut.
constexpr Duration kClientGrace = std::chrono::seconds(5);

/// How long a store does nothing before it counts as one that does not answer.
constexpr Duration kStoreSilence = std::chrono::seconds(1);

/// Stores that are given up after --stop-timeout answer within this.
constexpr Duration kLastWord = 3 * kStoreSilence;
constexpr Duration kEndPoll = std::chrono::milliseconds(10);

/// Something waits for its store: a request inside, or the end of the disk.
bool waits(ServedDisk& served, const DiskSet& disks) {
  const auto& closing = disks.closing();
  const bool closes = std::any_of(closing.begin(), closing.end(),
                                  [&served](const auto& each) { return each.get() == &served; });
  return closes || served.disk().gate().inside() != 0;
}

}  // namespace

Task<ControlResponse> Engine::answer(ControlRequest request) {
  const auto place = asked_.insert(asked_.end(), request.method + " " + request.path);
  ControlResponse response = co_await api_.answer(std::move(request));
  asked_.erase(place);
  co_return response;
}

/// Whatever is asked of a medium may hang for ever, and not all of it can be given up one by one: a
/// thread may be inside the kernel. So nothing is joined without a limit, what has not ended by
/// then is named and left, and everything else ends in order.
Task<Status> Engine::shut_down() {
  CancelSource ended(loop_);
  TaskScope beside;
  auto guard = give_up_stores(ended);
  beside.spawn(std::move(guard));
  const TimePoint limit = loop_.now() + options_.stop_timeout + kLastWord;
  // Beside the clients' end, so that neither a target nor a client holds the other's up.
  auto moving = end_moves();
  ending_moves_.spawn(std::move(moving));
  auto parting = end_clients();
  ending_clients_.spawn(std::move(parting));
  co_await end_by(limit, ending_clients_, "requests of clients");
  co_await end_requests(limit);
  co_await wait_for_moves(limit);
  if (!parked_) co_await end_arrivals(limit);
  note_suspended_moves();
  report_end_.cancel();
  co_await end_by(limit, reports_, "reports");
  close_disks();
  const TimePoint close_limit = std::max(limit, loop_.now() + kLastWord);
  co_await end_by(close_limit, ending_disks_, "the end of disks");
  for (const auto& served : disks_.closing()) {
    given_up_.push_back("disk '" + served->name() + "' on " + served->disk().store_uri());
  }
  ended.cancel();
  co_await beside.join();
  if (given_up_.empty()) co_return closed_;
  std::string what;
  for (const std::string& each : given_up_) what += (what.empty() ? "" : ", ") + each;
  co_return Error(ErrorCode::kTimedOut,
                  "given up, since it had not ended in time (--stop-timeout): " + what);
}

/// A store that a move has left, or suspended, may hang: guests that wait for another daemon do not
/// wait for that too. It is left behind, and nobody else opens it before its last answer.
Task<void> Engine::wait_for_moves(TimePoint limit) {
  const TimePoint last_word = loop_.now() + kLastWord;
  const auto may_leave = [&] { return parked_ && jobs_.all_ended() && loop_.now() >= last_word; };
  while (ending_moves_.running() != 0 && loop_.now() < limit && !may_leave()) {
    co_await sleep_for(loop_, kEndPoll);
  }
  if (ending_moves_.running() == 0) co_return;
  if (!may_leave()) {
    given_up_.emplace_back("the end of moves");
    co_return;
  }
  for (const Unanswered::Place& store : jobs_.unanswered()) {
    log_.warning(store.uri + " has not answered " + store.job + ": it is left behind",
                 {store.disk, store.job, 0});
  }
}

/// What the next daemon is to compare with what it finds. Of a target that still hangs nobody knows
/// what it will be: it is not believed.
void Engine::note_suspended_moves() {
  const std::vector<Unanswered::Place> unanswered = jobs_.unanswered();
  for (const JobStatus& job : jobs_.list()) {
    const auto disk = disks_.get(job.disk);
    if (!job.suspended || !disk.ok()) continue;
    const bool answered =
        std::none_of(unanswered.begin(), unanswered.end(),
                     [&job](const Unanswered::Place& place) { return place.job == job.id; });
    (*disk)->leave_move(answered ? job.target_uri : "");
  }
  for (const auto& [name, target_uri] : restarts_.left()) {
    const auto disk = disks_.get(name);
    if (disk.ok()) (*disk)->leave_move(target_uri);
  }
}

Task<void> Engine::end_requests(TimePoint limit) {
  if (parked_) {
    co_await leave_requests();
    co_return;
  }
  co_await end_by(limit, requests_, "control requests");
  for (const std::string& request : asked_) given_up_.push_back(request);
}

/// Guests wait, and the process ends once another one serves them. What a thread hangs in ends with
/// it, as in a crash; only what is at work in the journal or closes a store is to be done first.
Task<void> Engine::leave_requests() {
  const TimePoint until = loop_.now() + kClientGrace;
  const auto changes = [this] { return journal_->running() != 0 || !disks_.closing().empty(); };
  while (requests_.running() != 0 && changes() && loop_.now() < until) {
    co_await sleep_for(loop_, kEndPoll);
  }
  for (const std::string& request : asked_) {
    log_.warning("a control request that has not ended is left behind: " + request);
  }
}

Task<void> Engine::end_arrivals(TimePoint limit) {
  co_await end_by(limit, recorded_.restoring(), "disks that were served before");
  co_await end_by(limit, takeover_.opening(), "disks that were handed over");
  if (recorded_.restoring().running() + takeover_.opening().running() == 0) co_return;
  for (const HandoverDisk& disk : late_disks()) {
    if (recorded_.has_failed(disk.request.disk)) continue;
    given_up_.push_back("disk '" + disk.request.disk + "'");
  }
}

bool Engine::left_behind() const {
  return requests_.running() + recorded_.restoring().running() + takeover_.opening().running() +
             ending_moves_.running() !=
         0;
}

bool Engine::leave_journal() {
  if (journal_->running() != 0) return false;
  journal_.reset();
  return true;
}

Task<void> Engine::end_by(TimePoint limit, TaskScope& scope, const char* what) {
  while (scope.running() != 0 && loop_.now() < limit) co_await sleep_for(loop_, kEndPoll);
  if (scope.running() != 0) given_up_.emplace_back(what);
}

Task<void> Engine::end_clients() {
  co_await server_->stop(kClientGrace);
  co_await inherited_.join();
}

/// Side by side, so that a disk whose store hangs keeps no other from its end.
void Engine::close_disks() {
  const auto disks = disks_.disks();
  for (const std::shared_ptr<ServedDisk>& served : disks) {
    const std::string job = jobs_.job_of(served->name());
    if (job.empty()) {
      auto closing = close_disk(served->name());
      ending_disks_.spawn(std::move(closing));
    } else {
      unclosed_.insert(served->name());
      given_up_.push_back(job + " of disk '" + served->name() + "'");
    }
  }
}

Task<void> Engine::close_disk(std::string name) {
  unclosed_.insert(name);
  std::string its_name = name;
  const Status closed = co_await disks_.remove(std::move(its_name));
  if (closed.ok()) unclosed_.erase(name);
  if (!closed.ok() && closed_.ok()) closed_ = closed;
}

Task<void> Engine::end_moves() {
  takeover_.finish();
  recorded_.finish();
  co_await restarts_.finish();
  // What a memory remembers no restart finds.
  const bool goes_on = !options_.private_journal;
  const Duration patience = std::min<Duration>(kStoreSilence, options_.stop_timeout / 2);
  // A hand-over has had that done while clients were still served.
  if (goes_on && !parked_) co_await jobs_.record_progress(patience);
  co_await jobs_.stop(goes_on ? JobBoard::AtStop::kSuspend : JobBoard::AtStop::kAbort);
  co_await migrations_.finish();
}

/// An end in order must end: what a store has not answered for --stop-timeout is given up.
Task<void> Engine::give_up_stores(CancelSource& ended) {
  std::set<std::shared_ptr<ServedDisk>> given_up;
  bool over = co_await ended.event().wait_until(loop_.now() + options_.stop_timeout);
  while (!over) {
    auto disks = disks_.disks();
    disks.insert(disks.end(), disks_.closing().begin(), disks_.closing().end());
    std::map<const ServedDisk*, std::uint64_t> answered;
    for (const auto& served : disks) {
      if (waits(*served, disks_) && !given_up.contains(served))
        answered[served.get()] = served->disk().stats().requests();
    }
    over = co_await ended.event().wait_until(loop_.now() + kStoreSilence);
    for (const auto& served : disks) {
      const auto before = answered.find(served.get());
      const bool silent = before != answered.end() && waits(*served, disks_) &&
                          before->second == served->disk().stats().requests();
      if (over || !silent) continue;
      log_.error("the store " + served->disk().store_uri() +
                     " has not answered in time: what it was asked is given up (--stop-timeout)",
                 {served->name(), "", served->disk().epoch()});
      served->disk().store().abandon();
      given_up.insert(served);
    }
  }
}

}  // namespace blockmig
