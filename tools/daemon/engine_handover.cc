// SPDX-License-Identifier: Apache-2.0
// How a daemon's engine leaves its place to another one, or takes it.
#include <utility>

#include "bitmap/bitmap_codec.h"
#include "tools/daemon/engine.h"
#include "tools/daemon/reopening.h"

namespace blockmig {
namespace {

HandoverDisk disk_to_hand_over(ServedDisk& served) {
  HandoverDisk disk;
  disk.request = served.request();
  disk.request.source.clear();  // the journal knows; it may have moved
  disk.request.listen.clear();  // the listeners come along
  disk.request.bitmaps.clear();
  disk.request.create_size_bytes = 0;
  disk.request.force_source = false;
  for (const BitmapFacts& facts : served.bitmaps().bitmaps()) {
    if (facts.persistent) continue;  // the journal has those
    const std::vector<std::byte> frame = encode_bitmap(*facts.bitmap);
    disk.bitmaps.push_back({facts.name,
                            std::string(reinterpret_cast<const char*>(frame.data()), frame.size()),
                            facts.recording, facts.id});
  }
  return disk;
}

bool is_busy(const Status& status) {
  return !status.ok() && status.error().code() == ErrorCode::kBusy;
}

}  // namespace

Task<Result<Handover>> Engine::park(Duration patience, Stragglers stragglers) {
  if (!asked_.empty()) {
    co_return Error(ErrorCode::kBusy, "a control request has not ended: " + asked_.front());
  }
  if (!restarts_.arriving().empty()) {
    co_return Error(ErrorCode::kBusy, "disk '" + *restarts_.arriving().begin() +
                                          "' is being added: its store has not answered");
  }
  for (const std::shared_ptr<ServedDisk>& served : disks_.disks()) {
    const std::string job = jobs_.job_of(served->name());
    if (!job.empty()) co_return busy_with(served->name(), job);
  }
  Result<ParkedServer> parked = co_await server_->park(patience, stragglers);
  if (!parked.ok()) co_return parked.error();
  Handover handover = handover_of(*std::move(parked));
  for (const std::shared_ptr<ServedDisk>& served : disks_.disks()) {
    handover.state.disks.push_back(disk_to_hand_over(*served));
  }
  log_.info("handing over " + std::to_string(handover.state.clients.size()) + " clients and " +
            std::to_string(handover.state.disks.size()) + " disks");
  co_return std::move(handover);
}

Task<Status> Engine::check_successor(Duration patience) {
  const Status journal = journal_->health();
  if (!journal.ok()) co_return journal.error().with_context("the journal has failed");
  auto disks = disks_.disks();
  const Status openable = co_await check_reopening(loop_, requests_, std::move(disks), patience);
  co_return openable;
}

Task<Status> Engine::resume_disks(const Handover& handover, ResumedDisks which) {
  for (const HandoverDisk& disk : handover.state.disks) {
    Status resumed = co_await resume_disk(disk);
    const TimePoint until = loop_.now() + kReleasePatience;
    while (which == ResumedDisks::kOpenable && is_busy(resumed) && loop_.now() < until) {
      co_await sleep_for(loop_, kReleasePoll);
      resumed = co_await resume_disk(disk);
    }
    if (resumed.ok()) continue;
    if (which == ResumedDisks::kAll) co_return resumed;
    log_.error("is not served any more, and its clients are cut: " + resumed.error().message(),
               {disk.request.disk, "", 0});
  }
  co_return Status();
}

Status Engine::resume_clients(const Handover& handover) {
  Result<ParkedServer> parked = parked_of(handover);
  if (!parked.ok()) return parked.error();
  const std::size_t clients = parked->clients.size();
  const Status served = server_->resume(*std::move(parked));
  if (served.ok()) log_.info("going on with " + std::to_string(clients) + " clients");
  const bool more = !options_.listen_besides.empty();
  const Status listening = more ? disk_service_.listen(options_.listen_besides) : Status();
  if (!listening.ok()) log_.error("not listening: " + listening.error().message());
  return served;
}

Task<Status> Engine::resume_disk(const HandoverDisk& disk) {
  ServeRequest request = disk.request;
  const std::string name = request.disk;
  Listening listening;
  listening.wanted = false;
  const Result<DiskView> served = co_await disk_service_.serve(std::move(request), listening);
  if (!served.ok()) co_return served.error().with_context("disk '" + name + "'");
  const auto found = disks_.get(name);
  if (!found.ok()) co_return found.error();
  for (const HandoverBitmap& bitmap : disk.bitmaps) {
    const auto frame = std::as_bytes(std::span(bitmap.frame.data(), bitmap.frame.size()));
    auto decoded = decode_bitmap(frame);
    if (!decoded.ok()) co_return decoded.error().with_context("bitmap '" + bitmap.name + "'");
    BitmapPlan plan;
    plan.name = bitmap.name;
    plan.granularity_bytes = (*decoded)->granularity_bytes();
    plan.persistent = false;
    plan.recording = bitmap.recording;
    plan.id = bitmap.id;
    const Status added = (*found)->bitmaps().add_now(std::move(plan), *std::move(decoded));
    if (!added.ok()) co_return added;
  }
  co_return Status();
}

}  // namespace blockmig
