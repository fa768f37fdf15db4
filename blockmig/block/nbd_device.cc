// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/nbd_device.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/block/durable_writes.h"
#include "blockmig/block/extent_blocks.h"
#include "blockmig/block/nbd_connect.h"
#include "blockmig/block/nbd_connection.h"
#include "blockmig/block/store_health.h"
#include "blockmig/block/sync_group.h"
#include "blockmig/io/offload.h"
#include "blockmig/io/semaphore.h"

namespace blockmig {
namespace {

// TRIM and WRITE_ZEROES may be longer than the payload limit, but one current server zeroes only
// the first 64 MiB of a longer request and reports success: stay below (I11).
constexpr std::uint64_t kMaxPayloadFreeBytes = 32 * kMiB;
// BLOCK_STATUS has 32-bit lengths; half of that leaves room for any server's arithmetic.
constexpr std::uint64_t kMaxStatusBytes = kGiB;
constexpr std::uint32_t kPiecesAtOnce = 16;
constexpr std::uint64_t kZeroPieceBytes = kMiB;

class NbdDevice final : public BlockDevice, public StoreHealth {
 public:
  NbdDevice(IoLoop& loop, DeviceInfo info, const NbdFacts& facts, Identities identities,
            const NbdDeviceOptions& options)
      : loop_(loop),
        info_(std::move(info)),
        facts_(facts),
        identities_(std::move(identities)),
        options_(options),
        syncs_(loop, lost_writes_, [this] { return flush_server(); }),
        durable_(loop, lost_writes_) {}

  void add(NbdHandle handle) {
    connections_.push_back(std::make_unique<NbdConnection>(loop_, std::move(handle), info_.name));
  }

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  void abandon() override;
  void withdraw() override;
  std::optional<Error> lost() const override;
  Identities identities() const override { return identities_; }
  Task<Status> revive() override;
  Task<Status> close() override;

 private:
  Task<void> close_connections();
  Task<Status> connect_again();
  Status usable(bool for_writing) const;
  Status usable_at(std::uint64_t offset, std::uint64_t length, bool for_writing) const;
  /// A flush that need not make anything durable, for `durable_` only.
  Task<Status> no_flush() { co_return Status(); }
  Task<Status> run_one(NbdCommand command);
  Task<Status> send(NbdCommand command);
  Task<Status> run(NbdCommand command, std::uint64_t piece_bytes);
  Task<void> run_piece(NbdCommand piece, Semaphore& window, Status& result);
  /// A change, made durable if `fua`, by flag where the server knows it, else by a flush behind it.
  Task<Status> change(NbdCommand command, std::uint64_t piece_bytes, bool fua);
  Task<Status> zero(NbdCommand command, bool fast_only, bool fua);
  Task<Status> zero_by_writing(NbdCommand command, bool fua);
  /// For `syncs_` only.
  Task<Status> flush_server();

  IoLoop& loop_;
  DeviceInfo info_;
  NbdFacts facts_;
  Identities identities_;
  NbdDeviceOptions options_;
  std::vector<std::unique_ptr<NbdConnection>> connections_;
  StickyError lost_writes_;
  /// A server may do no more than fdatasync for each flush, so here as with files.
  SyncGroup syncs_;
  /// And for each durable write, on the same open file: flushes are among these.
  DurableWrites durable_;
  std::optional<Error> lost_;  ///< why there are no connections
  bool reviving_ = false;
  bool abandoned_ = false;
};

/// One lost connection ends the device: what was acknowledged on it and not flushed may be gone, so
/// going on with the others would promise too much.
Status NbdDevice::usable(bool for_writing) const {
  // From its first step on: the connections that are still there are about to be closed.
  if (reviving_) return Error(ErrorCode::kDisconnected, info_.name + ": is being connected again");
  for (const auto& connection : connections_) {
    if (connection->death()) return *connection->death();
  }
  if (connections_.empty() && lost_) return *lost_;
  if (abandoned_) return Error(ErrorCode::kDisconnected, info_.name + ": given up");
  if (for_writing && info_.read_only) {
    return Error(ErrorCode::kReadOnly, info_.name + ": opened read-only");
  }
  return {};
}

/// An error and no assertion: what has to be aligned is the server's choice.
Status NbdDevice::usable_at(std::uint64_t offset, std::uint64_t length, bool for_writing) const {
  const Status ready = usable(for_writing);
  return ready.ok() ? check_range(info_, offset, length, for_writing) : ready;
}

std::optional<Error> NbdDevice::lost() const {
  const Status ready = usable(false);
  if (ready.ok()) return std::nullopt;
  return ready.error();
}

Task<Status> NbdDevice::run_one(NbdCommand command) {
  if (!command.fua) {
    const Status done = co_await send(command);
    co_return done;
  }
  const auto pass = [this, &command](bool durable) {
    command.fua = durable;
    return send(command);
  };
  const Status done = co_await durable_.write(pass);
  co_return done;
}

Task<Status> NbdDevice::send(NbdCommand command) {
  const Status ready = usable(false);
  if (!ready) co_return ready;
  NbdConnection* least = connections_.front().get();
  for (const auto& connection : connections_) {
    if (connection->load() < least->load()) least = connection.get();
  }
  const Status done = co_await least->execute(command);
  co_return done;
}

Task<void> NbdDevice::run_piece(NbdCommand piece, Semaphore& window, Status& result) {
  const Status done = co_await run_one(piece);
  // The first error stays: a later success must not cover it (trap 12).
  if (!done && result.ok()) result = done;
  window.release(1);
}

/// In pieces where it is longer than `piece_bytes`, several at once.
Task<Status> NbdDevice::run(NbdCommand command, std::uint64_t piece_bytes) {
  if (command.length <= piece_bytes) {
    const Status done = co_await run_one(command);
    co_return done;
  }
  Status result;
  Semaphore window(loop_, kPiecesAtOnce);
  TaskScope scope;
  while (command.length > 0 && result.ok()) {
    co_await window.acquire(1);
    if (!result) {
      window.release(1);
      break;
    }
    const NbdCommand piece = command.take(piece_bytes);
    scope.spawn(run_piece(piece, window, result));
  }
  co_await scope.join();
  co_return result;
}

Task<Status> NbdDevice::change(NbdCommand command, std::uint64_t piece_bytes, bool fua) {
  command.fua = fua && facts_.can_fua;
  const Status done = co_await run(command, piece_bytes);
  if (!done || !fua || facts_.can_fua) co_return done;
  const Status flushed = co_await flush();
  co_return flushed;
}

Task<Status> NbdDevice::read(std::uint64_t offset, MutableBytes into) {
  const Status ready = usable_at(offset, into.size(), false);
  if (!ready || into.empty()) co_return ready;
  NbdCommand command;
  command.kind = NbdCommand::Kind::kRead;
  command.offset = offset;
  command.length = into.size();
  command.into = into.data();
  const Status done = co_await run(command, facts_.max_payload_bytes);
  co_return done;
}

Task<Status> NbdDevice::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  const Status ready = usable_at(offset, from.size(), true);
  if (!ready || from.empty()) co_return ready;
  NbdCommand command;
  command.kind = NbdCommand::Kind::kWrite;
  command.offset = offset;
  command.length = from.size();
  command.from = from.data();
  const Status done = co_await change(command, facts_.max_payload_bytes, flags.fua);
  co_return done;
}

Task<Status> NbdDevice::flush() {
  const Status failed_before = lost_writes_.verdict(lost_writes_.age());
  if (!failed_before) co_return failed_before;
  const Status ready = usable(false);
  if (!ready || info_.read_only) co_return ready;
  if (!facts_.can_flush) {
    co_return Error(ErrorCode::kNotSupported,
                    info_.name + ": the server offers no flush, nothing can be made durable");
  }
  const Status done = co_await syncs_.flush();
  co_return done;
}

Task<Status> NbdDevice::flush_server() {
  // One connection is enough: more than one is open only where a flush covers all (MULTI_CONN).
  NbdCommand command;  // a flush
  const auto pass = [this, &command](bool durable) { return durable ? send(command) : no_flush(); };
  const Status done = co_await durable_.write(pass);
  co_return done;
}

Task<Status> NbdDevice::trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) {
  const Status ready = usable_at(offset, length, true);
  if (!ready || length == 0) co_return ready;
  if (!facts_.can_trim) {
    if (!flags.fua) co_return Status();
    const Status flushed = co_await flush();
    co_return flushed;
  }
  NbdCommand command;
  command.kind = NbdCommand::Kind::kTrim;
  command.offset = offset;
  command.length = length;
  const Status done = co_await change(command, kMaxPayloadFreeBytes, flags.fua);
  co_return done;
}

Task<Status> NbdDevice::write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) {
  const Status ready = usable_at(offset, length, true);
  if (!ready || length == 0) co_return ready;
  if (flags.fast_only && !facts_.can_fast_zero) {
    co_return Error(ErrorCode::kNotSupported, info_.name + ": no fast zeroing");
  }
  NbdCommand command;
  command.kind = NbdCommand::Kind::kZero;
  command.offset = offset;
  command.length = length;
  command.no_hole = flags.no_hole;
  const Status done = co_await zero(command, flags.fast_only, flags.fua);
  co_return done;
}

Task<Status> NbdDevice::zero(NbdCommand command, bool fast_only, bool fua) {
  if (fast_only) {
    // The first piece answers for all: if it cannot be fast, nothing has changed yet.
    NbdCommand probe = command.take(kMaxPayloadFreeBytes);
    probe.fast = true;
    const Status fast = co_await change(probe, kMaxPayloadFreeBytes, fua);
    if (!fast || command.length == 0) co_return fast;
  }
  if (facts_.can_zero) {
    const Status done = co_await change(command, kMaxPayloadFreeBytes, fua);
    if (done || done.error().code() != ErrorCode::kNotSupported) co_return done;
  }
  const Status written = co_await zero_by_writing(command, fua);
  co_return written;
}

Task<Status> NbdDevice::zero_by_writing(NbdCommand command, bool fua) {
  const std::uint64_t most = std::min<std::uint64_t>(kZeroPieceBytes, facts_.max_payload_bytes);
  const std::vector<std::byte> zeros(std::min(most, command.length));
  command.kind = NbdCommand::Kind::kWrite;
  command.no_hole = false;
  while (command.length > 0) {
    NbdCommand piece = command.take(zeros.size());
    piece.from = zeros.data();
    const Status done = co_await change(piece, zeros.size(), fua);
    if (!done) co_return done;
  }
  co_return Status();
}

Task<Result<std::vector<Extent>>> NbdDevice::extents(std::uint64_t offset, std::uint64_t length) {
  const Status ready = usable_at(offset, length, false);
  if (!ready) co_return ready.error();
  std::vector<Extent> found;
  if (length == 0) co_return found;
  if (!facts_.has_allocation) {
    found.push_back(Extent{offset, length, false, false});
    co_return found;
  }
  NbdCommand command;
  command.kind = NbdCommand::Kind::kBlockStatus;
  command.offset = offset;
  command.length = std::min(length, kMaxStatusBytes);
  command.extents = &found;
  const Status done = co_await run_one(command);
  if (!done) co_return done.error();
  if (found.empty() || found.front().offset != offset) {
    co_return Error(ErrorCode::kProtocol, info_.name + ": block status without an extent");
  }
  if (found.size() > kMaxExtents) found.resize(kMaxExtents);
  co_return in_whole_blocks(found, {offset, length}, info_.min_io_bytes);
}

void NbdDevice::abandon() {
  abandoned_ = true;
  for (const auto& connection : connections_) connection->cut();
}

void NbdDevice::withdraw() {
  abandoned_ = true;
  for (const auto& connection : connections_) connection->withdraw();
}

Task<void> NbdDevice::close_connections() {
  for (const auto& connection : connections_) co_await connection->close();
  connections_.clear();
}

Task<Status> NbdDevice::close() {
  co_await close_connections();
  co_return Status();
}

/// All connections anew: what a server did on one of them before it broke is known only by what it
/// does with those that come after.
Task<Status> NbdDevice::revive() {
  BM_CHECK(!reviving_);
  reviving_ = true;
  const Status connected = co_await connect_again();
  reviving_ = false;
  co_return connected;
}

Task<Status> NbdDevice::connect_again() {
  if (!lost_) lost_ = Error(ErrorCode::kDisconnected, info_.name + ": is being connected again");
  co_await close_connections();
  Result<NbdOpened> opened =
      co_await offload(loop_, [this] { return connect_nbd(info_.name, options_); });
  if (abandoned_) co_return *lost_;
  if (!opened) {
    lost_ = opened.error();
    co_return opened.error();
  }
  if (opened->facts != facts_) {
    co_return Error(
        ErrorCode::kPrecondition,
        info_.name + ": the server came back with another export: it has " +
            std::to_string(opened->facts.size_bytes) + " bytes, it had " +
            std::to_string(facts_.size_bytes) +
            (opened->facts.size_bytes == facts_.size_bytes ? "; what it offers is another" : ""));
  }
  for (NbdHandle& handle : opened->handles) add(std::move(handle));
  identities_ = std::move(opened->identities);
  lost_writes_.forget();
  lost_.reset();
  co_return Status();
}

}  // namespace

Task<Result<std::unique_ptr<BlockDevice>>> open_nbd_device(IoLoop& loop, const std::string& uri,
                                                           const NbdDeviceOptions& options) {
  Result<NbdOpened> opened = co_await offload(loop, [&] { return connect_nbd(uri, options); });
  if (!opened) co_return opened.error();
  const NbdFacts& facts = opened->facts;
  DeviceInfo info;
  info.name = uri;
  info.size_bytes = facts.size_bytes;
  info.min_io_bytes = facts.min_block_bytes;
  info.remote = true;
  info.preferred_io_bytes = facts.preferred_block_bytes;
  info.read_only = options.read_only || facts.read_only;
  info.can_trim = facts.can_trim && !info.read_only;
  info.can_fast_zero = facts.can_fast_zero && !info.read_only;
  auto device = std::make_unique<NbdDevice>(loop, std::move(info), facts,
                                            std::move(opened->identities), options);
  for (NbdHandle& handle : opened->handles) device->add(std::move(handle));
  std::unique_ptr<BlockDevice> result = std::move(device);
  co_return result;
}

Task<Result<Identities>> ask_nbd_identities(IoLoop& loop, const std::string& uri,
                                            Duration timeout) {
  // From here on: those that wait for a thread meanwhile do not add up.
  const TimePoint deadline = TimePoint(std::chrono::steady_clock::now()) + timeout;
  Result<Identities> said = co_await offload(loop, [&] { return ask_nbd(uri, deadline); });
  co_return said;
}

}  // namespace blockmig
