// SPDX-License-Identifier: Apache-2.0
// How a daemon's engine leaves its place to another one, or takes it.
#include <iterator>
#include <utility>

#include "bitmap/bitmap_codec.h"
#include "tools/daemon/engine.h"
#include "tools/daemon/reopening.h"

namespace blockmig {
namespace {

/// For the moves to come to rest. Clients wait for none of it; who is to take over does.
constexpr Duration kRestPatience = std::chrono::seconds(10);
constexpr Duration kShortRestPatience = std::chrono::seconds(1);  ///< of an end, which comes anyway

HandoverDisk disk_to_hand_over(const ServeRequest& request) {
  HandoverDisk disk;
  disk.request = request;
  disk.request.source.clear();  // the journal knows; it may have moved
  disk.request.bitmaps.clear();
  disk.request.create_size_bytes = 0;
  disk.request.force_source = false;
  return disk;
}

HandoverDisk disk_to_hand_over(ServedDisk& served) {
  HandoverDisk disk = disk_to_hand_over(served.request());
  for (const BitmapFacts& facts : served.bitmaps().bitmaps()) {
    if (facts.persistent) continue;  // the journal has those
    const std::vector<std::byte> frame = encode_bitmap(*facts.bitmap);
    disk.bitmaps.push_back({facts.name,
                            std::string(reinterpret_cast<const char*>(frame.data()), frame.size()),
                            facts.recording, facts.id});
  }
  return disk;
}

}  // namespace

Task<Result<Handover>> Engine::park(Duration patience, Stragglers stragglers) {
  Result<Handover> parked = co_await park_clients(patience, stragglers);
  if (!parked.ok()) jobs_.stay();
  co_return std::move(parked);
}

Task<Result<Handover>> Engine::park_clients(Duration patience, Stragglers stragglers) {
  auto late = late_disks();
  std::erase_if(late, [this](const HandoverDisk& disk) {
    const std::string& name = disk.request.disk;
    return comes_by_itself(name) && (takeover_.has_failed(name) || recorded_.has_failed(name));
  });
  if (stragglers == Stragglers::kRefuse && !late.empty()) {
    co_return Error(ErrorCode::kBusy, "disk '" + late.front().request.disk +
                                          "' is being added: its store has not answered");
  }
  if (stragglers == Stragglers::kRefuse && !disks_.closing().empty()) {
    co_return Error(ErrorCode::kBusy, "disk '" + disks_.closing().front()->name() +
                                          "' is being detached: its store has not answered");
  }
  // An end comes anyway; whoever may refuse has seen to it before (check_successor()).
  if (stragglers == Stragglers::kCut) {
    const Status rest = co_await jobs_.yield(kShortRestPatience);
    if (!rest.ok()) log_.warning(rest.error().message());
  }
  tell_of_moves();
  ParkedServer waiting;
  waiting.clients = takeover_.take_clients();
  Result<ParkedServer> parked = co_await server_->park(patience, stragglers);
  if (!parked.ok()) {
    const Status back = takeover_.resume_clients(std::move(waiting));
    if (!back.ok()) log_.error(back.error().message());
    co_return parked.error();
  }
  parked_ = true;
  std::move(waiting.clients.begin(), waiting.clients.end(), std::back_inserter(parked->clients));
  Handover handover = handover_of(*std::move(parked));
  recorded_.finish();
  handover.state.disks = late_disks();
  std::erase_if(handover.state.disks,
                [this](const HandoverDisk& disk) { return comes_by_itself(disk.request.disk); });
  for (const std::shared_ptr<ServedDisk>& served : disks_.disks()) {
    handover.state.disks.push_back(disk_to_hand_over(*served));
  }
  log_.info("handing over " + std::to_string(handover.state.clients.size()) + " clients and " +
            std::to_string(handover.state.disks.size()) + " disks");
  co_return std::move(handover);
}

void Engine::tell_of_moves() {
  for (const JobStatus& job : jobs_.list()) {
    if (is_final(job.state) || job.switched) continue;
    log_.info(migrations_.what_a_restart_does(job), {job.disk, job.id, job.epoch});
  }
}

std::vector<HandoverDisk> Engine::late_disks() const {
  std::vector<HandoverDisk> disks = takeover_.late();
  for (const ServeRequest& request : recorded_.late()) disks.push_back(disk_to_hand_over(request));
  return disks;
}

/// The next daemon has a command line of its own, and the same journal.
bool Engine::comes_by_itself(const std::string& late) const {
  return takeover_.is_wanted(late) || recorded_.has_failed(late);
}

Task<Status> Engine::check_successor(Duration patience) {
  const Status journal = journal_->health();
  if (!journal.ok()) co_return journal.error().with_context("the journal has failed");
  const Status leaving = jobs_.check_leaving();
  if (!leaving.ok()) co_return leaving;
  auto disks = disks_.disks();
  const Status openable = co_await check_reopening(loop_, requests_, std::move(disks), patience);
  if (!openable.ok()) co_return openable;
  const Status rest = co_await jobs_.yield(kRestPatience);
  if (!rest.ok()) jobs_.stay();
  co_return rest;
}

Task<Status> Engine::resume_disks(const Handover& handover, ResumedDisks which) {
  restarts_.wait();  // whoever fails must not have touched the moves, and clients come first
  const Status opened = co_await takeover_.open_disks(handover.state.disks, which);
  co_return opened;
}

Task<Status> Engine::serve_wanted(std::vector<ServeRequest> disks, bool alone) {
  wanted_have_come_ = true;
  std::erase_if(disks, [this](const ServeRequest& request) {
    return disks_.get(request.disk).ok() || takeover_.is_late(request.disk);
  });
  if (disks.empty()) co_return Status();
  const Status opened = co_await takeover_.open_wanted(std::move(disks), alone);
  if (!opened) co_return opened;
  // Beside what was handed over it has been tried.
  const bool listened = !alone && !options_.listen_besides.empty();
  const Status listens = listened ? Status() : disk_service_.listen(options_.listen_besides);
  co_return listens;
}

Status Engine::resume_clients(const Handover& handover) {
  Result<ParkedServer> parked = parked_of(handover);
  if (!parked.ok()) {
    restarts_.go_on();
    return parked.error();
  }
  const std::size_t clients = parked->clients.size();
  const Status served = takeover_.resume_clients(*std::move(parked));
  restarts_.go_on();
  const std::size_t waiting = takeover_.waiting_clients();
  if (served.ok()) log_.info("going on with " + std::to_string(clients - waiting) + " clients");
  // No listener may have come along: then it is the usual one, if there is somebody to serve.
  const HandoverState& state = handover.state;
  const bool none = state.listeners.empty() && !state.disks.empty() &&
                    disk_service_.check_listening({}, state.protection).ok();
  std::vector<std::string> besides = options_.listen_besides;
  besides.insert(besides.end(), options_.stored.listen.begin(), options_.stored.listen.end());
  const bool more = none || !besides.empty();
  const Status listening = more ? disk_service_.listen(besides) : Status();
  if (!listening.ok()) log_.error("not listening: " + listening.error().message());
  // What it did not serve either is recorded still; clients do not wait for that.
  std::vector<std::string> except = options_.restore_except;
  for (const HandoverDisk& disk : handover.state.disks) except.push_back(disk.request.disk);
  recorded_.expect();
  recorded_.restoring().spawn(recorded_.serve_all(disk_service_, std::move(except)));
  return served;
}

}  // namespace blockmig
