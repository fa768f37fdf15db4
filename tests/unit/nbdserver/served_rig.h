// SPDX-License-Identifier: Apache-2.0
// ServedRig: an export on a real loop and its threads, a folder for the socket, and clients that
// speak bytes. The servers are the test's.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "blockmig/io/io_thread.h"
#include "blockmig/io/run_task.h"
#include "fake_export.h"
#include "fake_lane.h"
#include "nbdserver/server.h"
#include "tests/unit/shared/temporary_folder.h"
#include "wire_bytes.h"

namespace blockmig::nbd {

class ServedRig {
 protected:
  ~ServedRig() { clients_.clear(); }

  /// The loop, `threads` more of them, and "disk0", which is `device`; it must outlive the servers.
  void prepare(LoopKind kind, int threads, BlockDevice& device) {
    auto made = make_io_loop({.kind = kind});
    ASSERT_TRUE(made.ok());
    loop_ = *std::move(made);
    for (int i = 0; i < threads; ++i) {
      auto thread = IoThread::start({.kind = kind}, "serve");
      ASSERT_TRUE(thread.ok());
      options_.other_loops.push_back(&(*thread)->loop());
      threads_.push_back(*std::move(thread));
    }
    disk_ = std::make_shared<FakeExport>("disk0", device);
    disk_->open_lane_ = [this, &device](EventLoop& other) {
      return std::make_shared<FakeLane>(device, *loop_, other, readers_);
    };
    directory_.exports_.push_back(disk_);
    address_ = *SocketAddress::parse("unix:" + folder_ / "s.sock");
  }
  void send(Stream& stream, const ByteVector& bytes) {
    const ConstBytes part(bytes);
    const auto sent = run_task(*loop_, stream.write_all(std::span<const ConstBytes>(&part, 1)));
    EXPECT_TRUE(sent.ok());
  }
  ByteVector receive(Stream& stream, std::size_t size) {
    ByteVector bytes(size);
    const auto got = run_task(*loop_, read_exactly(stream, bytes));
    EXPECT_TRUE(got.ok());
    return bytes;
  }
  Stream& connected() {
    auto stream = run_task(*loop_, connect_to(*loop_, address_, std::chrono::seconds(5)));
    EXPECT_TRUE(stream.ok());
    clients_.push_back(*std::move(stream));
    return *clients_.back();
  }
  /// A client in transmission; `behind` comes in one piece with its last option.
  Stream& transmitting(const ByteVector& behind = {}) {
    Stream& client = connected();
    receive(client, 18);
    send(client, join({client_flags(3), option(kOptExportName, Wire().text("disk0")), behind}));
    receive(client, 10);
    return client;
  }

  std::unique_ptr<IoLoop> loop_;
  std::vector<std::unique_ptr<IoThread>> threads_;
  std::set<std::thread::id> readers_;  ///< who asked a lane for something
  std::shared_ptr<FakeExport> disk_;
  FakeDirectory directory_;
  NbdServerOptions options_;
  TemporaryFolder folder_;
  SocketAddress address_;
  std::vector<std::unique_ptr<Stream>> clients_;
};

}  // namespace blockmig::nbd
