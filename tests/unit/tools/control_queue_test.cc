// SPDX-License-Identifier: Apache-2.0
// The control socket while commands wait for what does not answer.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <condition_variable>
#include <cstring>
#include <future>
#include <mutex>

#include "blockmig/io/unique_fd.h"
#include "tests/unit/tools/scratch.h"
#include "tools/control/control_client.h"
#include "tools/control/control_server.h"
#include "tools/control/json.h"

namespace blockmig {
namespace {

using Answer = std::future<ControlResponse>;

/// Its commands hang until they are let go.
class Hanging final : public ControlHandler {
 public:
  ControlResponse handle(const ControlRequest& request) override {
    std::unique_lock lock(mutex_);
    if (request.method != "GET") {
      begun_.push_back(request.path);
      changed_.notify_all();
      changed_.wait(lock, [this] { return free_; });
    }
    return {200, "{}"};
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    free_ = true;
    changed_.notify_all();
  }
  void wait_for_begun(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return begun_.size() >= count; });
  }
  std::vector<std::string> begun() {
    const std::lock_guard lock(mutex_);
    return begun_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool free_ = false;
  std::vector<std::string> begun_;
};

class ControlQueue : public testing::Test {
 protected:
  void start(const CommandQueue::Limits& limits) {
    auto server = ControlServer::start(socket_, handler_, limits);
    ASSERT_TRUE(server.ok()) << server.error().message();
    server_ = *std::move(server);
  }
  void TearDown() override {
    handler_.let_go();
    server_.reset();
  }
  Answer post(const std::string& path) {
    return std::async(std::launch::async, [this, path] {
      return ControlClient(socket_).handle({"POST", path, "{}"});
    });
  }
  /// A request that has been sent; nobody has read the answer yet.
  UniqueFd sent(const std::string& path) const {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    const std::string text = "POST " + path + " HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    EXPECT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    return fd;
  }
  static std::string answer_of(const UniqueFd& fd) {
    std::string answer;
    char buffer[4096];
    for (ssize_t n = 0; (n = read(fd.get(), buffer, sizeof(buffer))) > 0;) {
      answer.append(buffer, static_cast<std::size_t>(n));
    }
    return answer;
  }
  bool answers() { return ControlClient(socket_).handle({"GET", "/v1/status", ""}).ok(); }

  static constexpr std::chrono::hours kLong{1};
  Scratch scratch_;
  std::string socket_ = scratch_ / "control.sock";
  Hanging handler_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlQueue, WhatIsOnlyAskedWaitsForNoCommand) {
  start({});
  std::vector<Answer> commands;
  for (int i = 0; i < 40; ++i) commands.push_back(post("/v1/disks/" + std::to_string(i)));
  handler_.wait_for_begun(16);
  EXPECT_TRUE(answers());
  handler_.let_go();
  for (Answer& command : commands) EXPECT_TRUE(command.get().ok());
  EXPECT_EQ(handler_.begun().size(), 40u);
}

TEST_F(ControlQueue, ACommandWhoseClientHasGivenUpIsNotBegun) {
  start({1, 8, kLong});
  Answer first = post("/first");
  handler_.wait_for_begun(1);
  sent("/given-up");
  Answer last = post("/last");
  handler_.let_go();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(last.get().ok());
  server_.reset();
  EXPECT_EQ(handler_.begun(), (std::vector<std::string>{"/first", "/last"}));
}

TEST_F(ControlQueue, ACommandThatHasNoPlaceIsToldSo) {
  start({1, 0, kLong});
  const Error refused = error_from_response(post("/v1/disks").get());
  EXPECT_EQ(refused.code(), ErrorCode::kBusy);
  EXPECT_NE(refused.message().find("not begun"), std::string::npos) << refused.message();
  EXPECT_TRUE(handler_.begun().empty());
  EXPECT_TRUE(answers());
}

TEST_F(ControlQueue, AtTheEndWhatWaitsIsNotBegunAndMayBeAskedAgain) {
  start({1, 8, kLong});
  Answer first = post("/first");
  handler_.wait_for_begun(1);
  const UniqueFd second = sent("/second");
  std::future<void> stopped = std::async(std::launch::async, [this] { server_.reset(); });
  const std::string told = answer_of(second);
  handler_.let_go();
  stopped.get();
  EXPECT_TRUE(first.get().ok());
  EXPECT_NE(told.find("Retry-After: 0"), std::string::npos) << told;
  EXPECT_NE(told.find("not begun"), std::string::npos) << told;
  EXPECT_EQ(handler_.begun().size(), 1u);
}

using Turn = CommandQueue::Turn;

Turn turn_with(std::chrono::steady_clock::duration patience) {
  std::promise<Turn> turn;
  CommandQueue queue({1, 8, patience});
  queue.add([&turn](Turn given) { turn.set_value(given); });
  return turn.get_future().get();
}

TEST(CommandQueue, WhoHasWaitedTooLongIsNotBegun) {
  EXPECT_EQ(turn_with(std::chrono::hours(1)), Turn::kBegin);
  EXPECT_EQ(turn_with(std::chrono::seconds(-1)), Turn::kTooLate);
}

TEST(CommandQueue, OneTooManyIsNotBegun) {
  std::promise<void> begun;
  std::promise<void> go_on;
  std::vector<Turn> others;
  CommandQueue queue({1, 1, std::chrono::hours(1)});
  queue.add([&](Turn) {
    begun.set_value();
    go_on.get_future().wait();
  });
  begun.get_future().wait();
  queue.add([&](Turn turn) { others.push_back(turn); });
  queue.add([&](Turn turn) { others.push_back(turn); });
  EXPECT_EQ(others, std::vector<Turn>{Turn::kTooLate});
  go_on.set_value();
  queue.stop();
}

}  // namespace
}  // namespace blockmig
