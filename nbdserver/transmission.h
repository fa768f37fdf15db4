// SPDX-License-Identifier: Apache-2.0
// Transmission: the phase in which a client's requests are served.
//
// run() receives as much as there is, starts every complete request in it (a task each; where the
// device completes at once the task has ended before the next request is looked at), and sends all
// replies together. It stops taking requests while the limits of InFlight are reached; DISC, the
// end of the stream and errors end the intake, and then everything in flight finishes and is
// answered before run() returns.
//
//   kServing ──begin_shutdown()──▶ kDraining   new requests get ESHUTDOWN, until none is in flight
//       │ └─────park()──▶ kParking ───┐│        no more is taken; the stream stays open
//       └─ intake ends, or cut() ─────┴┴─▶ kEnding ──▶ run() returns
//
// A client that is gone has nothing more begun either, as far as the stream can tell: a write of
// its that waits here for memory would land on what others have written since (trap 15).
//
// The caller closes the stream afterwards. Hostile input ends this connection only.
// Thread rule: one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/semaphore.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/task.h"
#include "blockmig/io/task_scope.h"
#include "nbdserver/block_status.h"
#include "nbdserver/buffer_pool.h"
#include "nbdserver/client_counters.h"
#include "nbdserver/export_lane.h"
#include "nbdserver/handshake.h"
#include "nbdserver/in_flight.h"
#include "nbdserver/receive_buffer.h"
#include "nbdserver/reply_queue.h"
#include "nbdserver/request_codec.h"
#include "nbdserver/request_rules.h"
#include "nbdserver/server.h"

namespace blockmig::nbd {

class Transmission final {
 public:
  /// A read up to this goes into the batch of replies, where that costs no memory that nobody is
  /// charged for; a longer one is sent from its own buffer.
  static constexpr std::size_t kMaxSmallReadBytes = 32 * 1024;
  /// A larger one is sent from where it lies, where device and stream can do that; up to this, as
  /// what the client does not take at once is copied on the spot.
  static constexpr std::size_t kMaxLentBytes = 2 * 1024 * 1024;
  /// A read from this on is sent from where it lies together with the rest of its batch; less is
  /// cheaper to copy.
  static constexpr std::size_t kMinBorrowedBytes = 2048;
  /// Zeros from this on are answered as a hole.
  static constexpr std::size_t kMinHoleBytes = 512;
  /// CACHE reads the device in pieces of this size.
  static constexpr std::uint64_t kCachePieceBytes = 256 * 1024;
  /// What a request costs in memory beside its data.
  static constexpr std::uint64_t kRequestOverheadBytes = 256;

  /// `lane`, `stream` and `pool` belong to `loop`; `counters` may be read by any thread.
  Transmission(EventLoop& loop, Stream& stream, BufferPool& pool, ExportLane& lane,
               const TransmissionRules& rules, std::vector<MetaContext> contexts,
               const NbdServerLimits& limits, ClientCounters& counters);
  Transmission(const Transmission&) = delete;
  Transmission& operator=(const Transmission&) = delete;

  /// `leftover`: what came behind the negotiation's last option; copied before the first
  /// suspension.
  Task<void> run(ConstBytes leftover);
  /// Idempotent.
  void begin_shutdown();
  /// Takes no more requests, answers those it has taken, and ends without closing the stream, which
  /// can_release(). A request whose payload is on its way is waited for.
  void park();
  /// Ends both directions of the stream, and begins nothing more of what the client has sent: when
  /// run() returns nothing of its is under way. Idempotent.
  void cut();
  /// After run(): it ended by park(), and these bytes of the next request had arrived.
  bool parked() const { return parked_; }
  ConstBytes leftover() const { return received_.available(); }
  /// Gives memory back if the connection is idle; called now and then.
  void release_idle_memory();

  /// The peer sent what cannot be a request, and was dropped for it.
  bool protocol_broken() const { return protocol_broken_; }

 private:
  enum class State : std::uint8_t { kServing, kDraining, kParking, kEnding };
  /// What the intake does next.
  enum class Step : std::uint8_t {
    kNext,            ///< the next request, after others on the loop had their turn
    kReceive,         ///< more bytes
    kReceivePayload,  ///< a long payload, for payload_request_
    kAwaitRoom,       ///< a limit is reached
    kPause,           ///< the client is slow in reading; do not read far ahead
    kEnd,
  };

  enum class Arrival : std::uint8_t { kBytes, kNothing, kEnd };

  // The intake (transmission.cc).
  Task<void> take_requests();
  Task<void> rest(TimePoint until);
  /// After a use of the loop since `begun`: others have theirs.
  Task<void> share_loop(TimePoint begun);
  Step start_requests();
  Step start_one();
  Step skip_payload();
  Step start_refusal(const Request& request, const Verdict& verdict, std::uint64_t payload);
  bool should_pause(const Request& request);
  void count_work(std::uint64_t charge);
  void start(const Request& request, BufferRef keep, ConstBytes payload);
  void start_write(const Request& request, BufferRef keep, ConstBytes payload, std::uint64_t done);
  Task<void> drain_then_close();
  void cut_if_gone();
  std::uint64_t charge_of(const Request& request) const;

  // Their bytes (transmission_receive.cc).
  MutableBytes room_to_receive();
  Arrival receive_now();
  /// Where the stream does not work in place.
  Task<Arrival> receive_waiting();
  Arrival end_of_intake(const Error& error);
  Task<Status> receive_payload();
  bool can_receive_in_place(const Request& request) const;
  /// How much of the payload the device has; the rest must be received and written.
  Task<Result<std::size_t>> receive_in_place(Request request);

  // The commands (commands.cc, block_status_command.cc). Each answers its request once.
  void start_read(const Request& request);
  Task<void> read_to_slot(Request request, ReplySlot slot);
  // Without a task, where the device can serve on the spot; false: nothing has been answered.
  bool read_at_once(const Request& request);
  bool borrow_read(const Request& request);
  bool lend_read(const Request& request);
  /// A chunk's data is never longer than what was advertised ("Structured reply types").
  bool is_one_chunk(const Request& request) const {
    return request.length <= rules_.facts.maximum_payload;
  }
  bool send_lent(const Request& request, ConstBytes data);
  bool write_at_once(const Request& request, ConstBytes payload, std::uint64_t done);
  Task<void> read_to_buffer(Request request);
  /// In pieces that the device takes; after an error the request is answered.
  Task<Status> read_pieces(const Request& request, MutableBytes data);
  /// `payload` is what is left of the request's after its first `done` bytes.
  Task<void> write(Request request, BufferRef keep, ConstBytes payload, std::uint64_t done);
  Task<void> flush(Request request);
  Task<void> trim(Request request);
  Task<void> write_zeroes(Request request);
  Task<void> cache(Request request);
  Task<Status> prefetch(const Request& request);
  Task<void> block_status(Request request, BufferRef keep, ConstBytes payload);
  Task<Status> status_of_context(const MetaContext& context, StatusRange range,
                                 std::vector<StatusExtent>& answer);

  // The answers (commands.cc). Each ends its request.
  void succeed(const Request& request);
  void fail(const Request& request, const Error& error, const std::uint64_t* at_offset = nullptr);
  void refuse(const Request& request, WireError error, Refusal refusal);
  void answer_error(const Request& request, WireError error, std::string_view text,
                    const std::uint64_t* at_offset, std::uint64_t charge);
  void answer_small_read(const Request& request, ReplySlot&& slot, ConstBytes data);
  void answer_read(const Request& request, BufferRef buffer, ConstBytes data);
  void finish(const Request& request);

  EventLoop& loop_;
  Stream& stream_;
  BufferPool& pool_;
  ExportLane& lane_;
  BlockDevice& device_;
  const TransmissionRules rules_;
  const std::vector<MetaContext> contexts_;
  const std::size_t header_bytes_;
  State state_ = State::kServing;
  ClientCounters& counters_;
  bool protocol_broken_ = false;

  ReceiveBuffer received_;
  InFlight in_flight_;
  ReplyQueue replies_;
  Semaphore prefetch_;  ///< one CACHE at a time: together they are no faster
  TaskScope requests_;
  TaskScope drain_;

  std::size_t wanted_bytes_ = 0;   ///< how much unparsed data the next step needs
  std::size_t receive_limit_ = 0;  ///< 0: as much as there is
  std::uint32_t work_ = 0;         ///< done since the loop last ran others
  std::uint64_t skip_left_ = 0;    ///< payload of refused_request_ still to come
  Request refused_request_;
  Verdict refused_verdict_;
  std::uint64_t seen_gives_ = 0;  ///< InFlight::gives() when a limit was found to be reached
  bool pause_is_over_ = false;    ///< waited long enough for the client to read
  Request payload_request_;       ///< for Step::kReceivePayload
  bool store_waits_ = false;      ///< the last write could not be made at once
  bool in_payload_ = false;       ///< bytes go past `received_`: the stream cannot change hands
  bool parked_ = false;
  bool awaits_payload_ = false;  ///< the client has sent part of a request
};

}  // namespace blockmig::nbd
