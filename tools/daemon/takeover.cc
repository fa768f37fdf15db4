// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/takeover.h"

#include <sys/socket.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/units.h"

namespace blockmig {
namespace {

/// Begins short: a process that was killed lets go of its images a moment after it is gone.
constexpr BackOff kTryAgain{kReleasePoll, std::chrono::seconds(2)};

}  // namespace

Task<Status> Takeover::open_disks(const std::vector<HandoverDisk>& disks, ResumedDisks which) {
  if (which == ResumedDisks::kOpenable) going_on_.set();
  const TimePoint until = loop_.now() + kPatience;
  for (const HandoverDisk& disk : disks) coming_[disk.request.disk].disk = disk;
  for (const HandoverDisk& disk : disks) {
    std::string name = disk.request.disk;
    auto bringing = bring(std::move(name));
    opening_.spawn(std::move(bringing));
  }
  bool in_time = true;
  while (in_time && !is_settled(which)) in_time = co_await changed_.wait_until(until);
  const auto failed = std::find_if(coming_.begin(), coming_.end(), [](const auto& each) {
    return each.second.failure.has_value();
  });
  if (which == ResumedDisks::kAll && in_time && failed != coming_.end()) {
    co_return failed->second.failure->with_context("disk '" + failed->first + "'");
  }
  for (auto& [name, coming] : coming_) name_late(name, coming);
  going_on_.set();
  co_return Status();
}

Task<Status> Takeover::open_wanted(std::vector<ServeRequest> disks, bool alone) {
  if (!alone) going_on_.set();
  bool in_time = true;
  for (const ServeRequest& request : disks) {
    Coming& coming = coming_[request.disk];
    coming.disk.request = request;
    coming.wanted = true;
  }
  for (const ServeRequest& request : disks) {
    std::string name = request.disk;
    auto bringing = bring(std::move(name));
    opening_.spawn(std::move(bringing));
    const TimePoint until = loop_.now() + kPatience;
    while (in_time && is_under_way(request.disk)) in_time = co_await changed_.wait_until(until);
  }
  const TimePoint until = loop_.now() + kPatience;
  const auto under_way = [&] {
    return std::any_of(disks.begin(), disks.end(),
                       [this](const auto& each) { return is_under_way(each.disk); });
  };
  in_time = true;
  while (in_time && under_way()) in_time = co_await changed_.wait_until(until);
  const Status judged = alone ? judge_wanted(disks) : Status();
  if (!judged) co_return judged;
  for (const ServeRequest& request : disks) {
    const auto late = coming_.find(request.disk);
    if (late != coming_.end()) name_late(late->first, late->second);
  }
  going_on_.set();
  co_return Status();
}

/// It has neither arrived nor failed.
bool Takeover::is_under_way(const std::string& name) const {
  const auto found = coming_.find(name);
  return found != coming_.end() && !found->second.failure;
}

/// What is wrong with all of them is the user's to hear at once, and what no store can cure.
Status Takeover::judge_wanted(const std::vector<ServeRequest>& disks) const {
  Status first;
  bool any = false;
  for (const ServeRequest& request : disks) {
    const auto found = coming_.find(request.disk);
    const std::optional<Error> failure =
        found != coming_.end() ? found->second.failure : std::nullopt;
    const bool hangs = failure && failure->code() == ErrorCode::kTimedOut;
    any = any || !failure || hangs;
    if (!failure) continue;
    if (failure->code() == ErrorCode::kInvalid) return *failure;
    if (first.ok()) first = *failure;
  }
  return any ? Status() : first;
}

/// Where there is a way back an error is final; else only a store that somebody is about to let go
/// of is waited for.
bool Takeover::is_settled(ResumedDisks which) const {
  return std::all_of(coming_.begin(), coming_.end(), [which](const auto& each) {
    const std::optional<Error>& failure = each.second.failure;
    return failure && (which == ResumedDisks::kAll || failure->code() != ErrorCode::kBusy);
  });
}

void Takeover::name_late(const std::string& name, Coming& coming) {
  coming.named = true;
  const std::string what =
      std::string(coming.wanted ? "is wanted" : "was handed over") + ", and is not served yet: ";
  const std::string wait = coming.wanted ? ": " : ": its clients wait, and ";
  if (coming.failure) {
    log_.error(what + coming.failure->message() + wait +
                   "it is tried again until it is there, or detached",
               {name, "", 0});
  } else {
    log_.error(what + "its store has not answered in " + format_duration(kPatience) +
                   (coming.wanted ? ": it is served as soon as that does"
                                  : ": its clients wait until it does"),
               {name, "", 0});
  }
}

Task<void> Takeover::bring(std::string name) {
  for (unsigned failures = 0; coming_.contains(name); ++failures) {
    const HandoverDisk disk = coming_[name].disk;
    const Status opened = co_await open(disk);
    if (opened.ok()) {
      co_await arrive(name);
      co_return;
    }
    fail(name, opened.error());
    co_await going_on_.wait();
    const bool over = co_await leaving_.wait_until(loop_.now() + kTryAgain.after(failures));
    if (over) co_return;
  }
}

Task<Status> Takeover::open(const HandoverDisk& disk) {
  ServeRequest request = disk.request;
  Listening listening;
  listening.wanted = false;
  const Result<DiskView> served =
      co_await service_.serve(std::move(request), listening, &disk.bitmaps);
  co_return served.ok() ? Status() : Status(served.error());
}

Task<void> Takeover::arrive(const std::string& name) {
  const auto found = coming_.find(name);
  if (found == coming_.end()) {  // given up meanwhile
    std::string unwanted = name;
    const Status detached = co_await service_.detach(std::move(unwanted), false);
    if (!detached.ok()) log_.error(detached.error().message(), {name, "", 0});
    co_return;
  }
  ParkedServer waiting;
  waiting.clients = std::move(found->second.clients);
  const Coming coming = std::move(found->second);
  coming_.erase(found);
  changed_.pulse();
  if (!coming.named || coming.wanted) co_return;
  log_.info("its store is back: going on with " + std::to_string(waiting.clients.size()) +
                " clients that waited",
            {name, "", 0});
  const Status resumed = server_.resume(std::move(waiting));
  if (!resumed.ok()) log_.error(resumed.error().message(), {name, "", 0});
}

void Takeover::fail(const std::string& name, const Error& error) {
  const auto found = coming_.find(name);
  if (found == coming_.end()) return;
  const std::optional<Error> before = std::exchange(found->second.failure, error);
  const bool other = !before || before->message() != error.message();
  if (found->second.named && other && !leaving_.is_set()) name_late(name, found->second);
  changed_.pulse();
}

Status Takeover::resume_clients(ParkedServer parked) {
  std::vector<ParkedClient> now;
  for (ParkedClient& client : parked.clients) {
    const auto late = coming_.find(client.export_name);
    auto& where = late == coming_.end() ? now : late->second.clients;
    where.push_back(std::move(client));
  }
  parked.clients = std::move(now);
  return server_.resume(std::move(parked));
}

std::vector<HandoverDisk> Takeover::late() const {
  std::vector<HandoverDisk> disks;
  for (const auto& [name, coming] : coming_) disks.push_back(coming.disk);
  return disks;
}

bool Takeover::is_wanted(const std::string& disk) const {
  const auto found = coming_.find(disk);
  return found != coming_.end() && found->second.wanted;
}

bool Takeover::has_failed(const std::string& disk) const {
  const auto found = coming_.find(disk);
  return found != coming_.end() && found->second.failure;
}

std::size_t Takeover::waiting_clients() const {
  std::size_t clients = 0;
  for (const auto& [name, coming] : coming_) clients += coming.clients.size();
  return clients;
}

std::vector<ParkedClient> Takeover::take_clients() {
  std::vector<ParkedClient> clients;
  for (auto& [name, coming] : coming_) {
    std::move(coming.clients.begin(), coming.clients.end(), std::back_inserter(clients));
    coming.clients.clear();
  }
  return clients;
}

bool Takeover::give_up(const std::string& disk) {
  const auto found = coming_.find(disk);
  if (found == coming_.end()) return false;
  // Others may have copies of its descriptor.
  for (const ParkedClient& client : found->second.clients) {
    (void)::shutdown(client.socket.get(), SHUT_RDWR);
  }
  coming_.erase(found);
  log_.info("is not waited for any more, and its clients are cut", {disk, "", 0});
  return true;
}

void Takeover::finish() {
  leaving_.set();
  going_on_.set();
}

}  // namespace blockmig
