// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/transmission_host.h"

#include <utility>

#include "blockmig/io/call_on.h"

namespace blockmig::nbd {

TransmissionHost::TransmissionHost(ServerLoop& home, ServerLoop& wanted, Stream& stream,
                                   Negotiated negotiated, const NbdServerLimits& limits)
    : home_(home),
      place_(&home),
      stream_(stream),
      disk_(std::move(negotiated.disk)),
      rules_(negotiated.rules),
      contexts_(std::move(negotiated.contexts)),
      limits_(limits) {
  if (&wanted != &home) lane_ = make_remote_lane(*disk_, home.loop, wanted.loop);
  if (lane_ != nullptr && stream_.detach()) {
    place_ = &wanted;
  } else {
    lane_ = make_home_lane(*disk_);
  }
  ++place_->connections;
}

TransmissionHost::~TransmissionHost() { --place_->connections; }

Task<void> TransmissionHost::run(ConstBytes leftover, bool park) {
  if (!elsewhere()) {
    const Status ended = co_await transmit(leftover, park);
    (void)ended;
    co_return;
  }
  const Status ended =
      co_await call_on(home_.loop, place_->loop, place_->tasks,
                       [this, leftover, park] { return transmit(leftover, park); });
  (void)ended;
}

/// At the place, from its first to its last line.
Task<Status> TransmissionHost::transmit(ConstBytes leftover, bool park) {
  if (elsewhere()) stream_.attach(*place_->io);
  {
    Transmission transmission(place_->loop, stream_, place_->pool, *lane_, rules_, contexts_,
                              limits_, counters_);
    running_->transmission = &transmission;
    if (park) transmission.park();
    co_await transmission.run(leftover);
    *running_ = Running{};
    protocol_broken_ = transmission.protocol_broken();
    parked_ = transmission.parked();
    if (parked_) leftover_.assign(transmission.leftover().begin(), transmission.leftover().end());
  }
  if (!parked_) stream_.shutdown();
  if (elsewhere()) stream_.detach();
  co_return Status();
}

template <typename Call>
void TransmissionHost::tell(Call call) {
  if (!elsewhere()) {
    if (running_->transmission != nullptr) call(*running_);
    return;
  }
  // Posted after run()'s own call, so it finds the transmission, or finds it gone.
  place_->loop.post([running = running_, call] {
    if (running->transmission != nullptr) call(*running);
  });
}

void TransmissionHost::begin_shutdown() {
  tell([](const Running& running) { running.transmission->begin_shutdown(); });
}

void TransmissionHost::park() {
  tell([](const Running& running) { running.transmission->park(); });
}

ParkedClient TransmissionHost::take_parked() {
  ParkedClient client;
  client.export_name = disk_->name();
  client.rules = rules_;
  client.contexts = std::move(contexts_);
  client.leftover = std::move(leftover_);
  return client;
}

void TransmissionHost::cut() {
  tell([](const Running& running) { running.transmission->cut(); });
}

void TransmissionHost::release_idle_memory() {
  tell([](const Running& running) { running.transmission->release_idle_memory(); });
}

}  // namespace blockmig::nbd
