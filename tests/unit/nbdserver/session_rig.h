// SPDX-License-Identifier: Apache-2.0
// SessionRig: sessions over in-memory streams on the simulated loop, driven byte by byte.
//
// send() and receive() let one simulated millisecond pass, in which everything that can happen
// happens.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/block/fault_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/pipe_stream.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "fake_export.h"
#include "nbdserver/server_loop.h"
#include "nbdserver/session.h"
#include "wire_bytes.h"

namespace blockmig::nbd {

/// Wraps a device and counts or changes what reaches it.
class SpyDevice final : public BlockDevice {
 public:
  explicit SpyDevice(BlockDevice& below) : below_(below), info_(below.info()) {}

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    ++reads;
    longest_io = std::max<std::uint64_t>(longest_io, into.size());
    if (offset <= fail_read_at && fail_read_at < offset + into.size()) {
      co_return Error(ErrorCode::kIo, "medium error");
    }
    const Status done = co_await below_.read(offset, into);
    co_return done;
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    ++writes;
    longest_io = std::max<std::uint64_t>(longest_io, from.size());
    last_write = flags;
    if (fail_writes) co_return Error(*fail_writes, "the store refuses");
    const Status done = co_await below_.write(offset, from, flags);
    if (!mapped.empty()) std::copy(from.begin(), from.end(), mapped_at(offset));
    co_return done;
  }
  Task<Status> flush() override {
    ++flushes;
    if (flush_after != nullptr) co_await flush_after->wait();
    if (fail_flush) co_return Error(ErrorCode::kIo, "flush failed");
    co_return Status();
  }
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override {
    ++trims;
    last_write = flags;
    last_range = {offset, length};
    const Status done = co_await below_.trim(offset, length, flags);
    co_return done;
  }
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override {
    ++zeroes;
    last_zero = flags;
    last_range = {offset, length};
    if (not_fast && flags.fast_only) co_return Error(ErrorCode::kNotSupported, "slow");
    const Status done = co_await below_.write_zeroes(offset, length, flags);
    if (!mapped.empty()) std::fill_n(mapped_at(offset), length, std::byte{0});
    co_return done;
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    last_range = {offset, length};
    if (!fake_extents.empty()) co_return fake_extents;
    auto found = co_await below_.extents(offset, length);
    co_return found;
  }
  bool lend_now(std::uint64_t offset, std::size_t length,
                FunctionRef<bool(ConstBytes)> use) override {
    if (in_place == nullptr) return false;
    ByteVector shown(length);
    in_place->peek(offset, shown);
    ++lends;
    const bool used = use(shown);
    std::fill(shown.begin(), shown.end(), std::byte{0xEE});  // whoever looks later sees this
    return used;
  }
  ConstBytes borrow_now(std::uint64_t offset, std::size_t length) override {
    if (mapped.empty()) return {};
    ++borrows;
    return ConstBytes(mapped).subspan(offset, length);
  }
  bool fill_now(std::uint64_t offset, std::size_t length,
                FunctionRef<std::size_t(MutableBytes)> fill) override {
    if (in_place == nullptr || fills == max_fills) return false;
    ByteVector place(length);
    in_place->peek(offset, place);
    const std::size_t filled = fill(place);
    in_place->poke(offset, ConstBytes(place).first(filled));
    ++fills;
    if (filled != length && (offset + filled) % 512 != 0) ++torn_sectors;
    return true;
  }
  bool shares_loop() const override { return rest != Duration::zero(); }
  TimePoint used_loop(TimePoint begun, TimePoint ended) override {
    EXPECT_LE(begun, ended);
    ++turns;
    return ended + rest;
  }
  Task<Status> close() override { co_return Status(); }

  DeviceInfo& mutable_info() { return info_; }

  int reads = 0, writes = 0, flushes = 0, trims = 0, zeroes = 0;
  std::uint64_t longest_io = 0;
  WriteFlags last_write;
  ZeroFlags last_zero;
  ByteRange last_range;
  std::uint64_t fail_read_at = UINT64_MAX;
  std::optional<ErrorCode> fail_writes;
  Event* flush_after = nullptr;  ///< of the loop that asks
  bool fail_flush = false;
  bool not_fast = false;
  std::vector<Extent> fake_extents;
  MemoryDevice* in_place = nullptr;  ///< lends and takes bytes where they lie
  ByteVector mapped;                 ///< not empty: the whole content, lent batch by batch
  int borrows = 0;
  int lends = 0, fills = 0, torn_sectors = 0;
  int max_fills = 1 << 30;
  Duration rest{};  ///< behind each turn of the clients
  int turns = 0;

 private:
  ByteVector::iterator mapped_at(std::uint64_t offset) {
    return mapped.begin() + static_cast<std::ptrdiff_t>(offset);
  }

  BlockDevice& below_;
  DeviceInfo info_;
};

class SessionRig {
 public:
  static constexpr std::uint64_t kDiskBytes = (1 << 20) + 1234;  // an odd tail (trap 7)

  explicit SessionRig(std::uint64_t seed = 1, std::uint64_t disk_bytes = kDiskBytes,
                      std::uint64_t budget_bytes = std::uint64_t{1} << 30)
      : random(seed),
        loop(random),
        memory("memory", disk_bytes),
        spy(memory),
        budget(budget_bytes) {
    disk = std::make_shared<FakeExport>("disk0", spy);
    directory.exports_.push_back(disk);
  }
  ~SessionRig() { close_all(); }
  /// Ends every session. A frozen store must have been thawed: its device has borrowed buffers.
  void close_all() {
    for (auto& each : connections_) each->stream->shutdown();
    run_task(loop, join_all());
    for (auto& each : connections_) each->session.reset();
    const BufferPool& pool = loops.home().pool;
    EXPECT_EQ(pool.total_bytes(), pool.idle_bytes()) << "a buffer leaked";
  }

  struct Connection {
    std::unique_ptr<Stream> stream;
    std::unique_ptr<Session> session;
    bool ended = false;  ///< the session's run() returned
    bool saw_eof = false;
  };

  Connection& connect(const PipeOptions& options = {.capacity_bytes = 1 << 20}) {
    auto [client, server] = make_pipe(loop, options);
    auto each = std::make_unique<Connection>();
    each->stream = std::move(client);
    if (wrap_server) server = wrap_server(std::move(server));
    each->session = std::make_unique<Session>(loops, directory, limits, std::move(server),
                                              connections_.size() + 1, security);
    connections_.push_back(std::move(each));
    tasks_.spawn(serve(*connections_.back()));
    return *connections_.back();
  }
  /// Lets everything happen that can, without waiting for the handshake's deadline.
  void settle(Duration time = std::chrono::milliseconds(1)) {
    run_task(loop, sleep_for(loop, time));
  }
  void send(Connection& to, ByteVector bytes) {
    tasks_.spawn(write(to, std::move(bytes)));
    settle();
  }
  /// Everything that has arrived.
  ByteVector receive(Connection& from) {
    ByteVector all;
    std::vector<std::byte> part(64 * 1024);
    for (;;) {
      settle();
      bool ended = false;
      const auto got = from.stream->try_read(part, &ended);
      if (ended || !got.ok()) from.saw_eof = true;
      if (!got.ok() || *got == 0) return all;
      all.insert(all.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(*got));
    }
  }
  ByteVector exchange(Connection& with, ByteVector bytes) {
    send(with, std::move(bytes));
    return receive(with);
  }

  enum class Style { kSimple, kStructured, kExtended };
  /// Connects and negotiates; base:allocation (id 1) and the given bitmaps (ids 2, …) unless
  /// simple.
  Connection& transmitting(Style style, const PipeOptions& options = {.capacity_bytes = 1 << 20},
                           const std::vector<std::string>& contexts = {}) {
    Connection& each = connect(options);
    ByteVector hello = client_flags(3);
    if (style == Style::kStructured) hello = join({hello, option(kOptStructured)});
    if (style == Style::kExtended) hello = join({hello, option(kOptExtended)});
    if (!contexts.empty()) {
      hello = join({hello, option(kOptSetMeta, meta_data("disk0", contexts))});
    }
    send(each, join({hello, option(kOptGo, info_data("disk0", {3}))}));
    const ByteVector answer = receive(each);
    const ByteVector ack = option_reply(kOptGo, kRepAck);
    EXPECT_GE(answer.size(), ack.size());
    EXPECT_TRUE(std::equal(ack.begin(), ack.end(), answer.end() - static_cast<long>(ack.size())));
    return each;
  }
  void poke(std::uint64_t offset, const ByteVector& bytes) { memory.poke(offset, bytes); }
  ByteVector peek(std::uint64_t offset, std::size_t length) {
    ByteVector bytes(length);
    memory.peek(offset, bytes);
    return bytes;
  }

  Random random;
  SimLoop loop;
  MemoryDevice memory;
  SpyDevice spy;
  MemoryBudget budget;
  ServerLoops loops{loop, {}, loop, 8 << 20, &budget};
  NbdServerLimits limits;
  FakeDirectory directory;
  std::shared_ptr<FakeExport> disk;
  std::shared_ptr<const NbdSecurity> security;
  /// What the server's end of the next connections is wrapped in.
  std::function<std::unique_ptr<Stream>(std::unique_ptr<Stream>)> wrap_server;

 private:
  Task<void> serve(Connection& each) {
    co_await each.session->run();
    each.ended = true;
  }
  Task<void> write(Connection& to, ByteVector bytes) {
    const ConstBytes part(bytes);
    const std::span<const ConstBytes> parts(&part, 1);
    const Status sent = co_await to.stream->write_all(parts);
    static_cast<void>(sent.ok());  // the server may have closed: tests look at what comes back
  }
  Task<void> join_all() { co_await tasks_.join(); }

  std::vector<std::unique_ptr<Connection>> connections_;
  TaskScope tasks_;
};

}  // namespace blockmig::nbd
