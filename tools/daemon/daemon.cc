// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/daemon.h"

#include <unistd.h>

#include <future>
#include <utility>

#include "blockmig/base/units.h"
#include "blockmig/io/pool_calls.h"
#include "tools/control/json.h"
#include "tools/control/state_dir.h"
#include "tools/daemon/engine.h"
#include "tools/daemon/serving_threads.h"

namespace blockmig {
namespace {

/// What is saved at once goes to the medium together (RocksDB's group commit).
constexpr unsigned kJournalThreads = 4;

/// A control request on its way to the loop and back; whichever side is later frees it.
struct Call {
  ControlRequest request;
  std::promise<ControlResponse> response;
};

Task<void> carry_out(Engine* engine, std::shared_ptr<Call> call) {
  ControlRequest request = std::move(call->request);
  ControlResponse response = co_await engine->answer(std::move(request));
  call->response.set_value(std::move(response));
}

Task<void> open_engine(Engine* engine, std::promise<Status>* opened) {
  const Status status = co_await engine->open();
  opened->set_value(status);
}

/// What waits for the result is on another thread.
template <typename T>
Task<void> deliver(Task<T> work, std::shared_ptr<std::promise<T>> result) {
  T value = co_await work;
  result->set_value(std::move(value));
}

Task<void> close_engine(IoLoop* loop, Engine* engine, Status* closed) {
  const Status status = co_await engine->shut_down();
  *closed = status;
  loop->stop();
}

ControlResponse refuse_stopping() {
  return error_response(Error(ErrorCode::kShutdown, "the daemon is stopping"));
}

}  // namespace

struct Daemon::Startup {
  std::promise<Status> opened;
};

Result<std::unique_ptr<Daemon>> Daemon::start(const DaemonOptions& options, Log& log,
                                              std::function<void()> on_stop_request) {
  std::unique_ptr<Daemon> daemon(new Daemon());
  auto startup = std::make_shared<Startup>();
  std::future<Status> opened = startup->opened.get_future();
  Daemon* raw = daemon.get();
  daemon->thread_ = std::thread(
      [raw, options, &log, on_stop_request = std::move(on_stop_request), startup]() mutable {
        raw->run(options, log, std::move(on_stop_request), *startup);
      });
  const Status status = opened.get();
  if (status.ok()) return daemon;
  const Status stopped = daemon->stop();  // the first error is the one to tell
  return stopped.ok() ? status.error() : status.error().with_context(stopped.error().message());
}

void Daemon::run(const DaemonOptions& options, Log& log, std::function<void()> on_stop_request,
                 Startup& startup) {
  // Everything of the loop is made, used and destroyed on this thread.
  IoLoopOptions loop_options;
  loop_options.kind = options.loop;
  Result<std::unique_ptr<IoLoop>> loop = make_io_loop(loop_options);
  if (!loop) {
    startup.opened.set_value(loop.error());
    return;
  }
  PoolCalls journal_calls(**loop, kJournalThreads);  // no store that hangs holds it up (I10)
  std::unique_ptr<Journal> journal;
  if (options.private_journal) {
    journal = make_memory_journal(**loop);
  } else {
    Result<std::unique_ptr<Journal>> opened =
        open_rocks_journal(journal_calls, journal_path(options.state_dir));
    if (!opened) {
      startup.opened.set_value(opened.error());
      return;
    }
    journal = *std::move(opened);
  }
  // A pinned or small machine gets none; they end after the engine.
  const Result<ServingThreads> serving = ServingThreads::start(options.threads, loop_options);
  if (!serving) {
    startup.opened.set_value(serving.error());
    return;
  }
  Engine engine(**loop, serving->loops(), std::move(journal), options, log,
                std::move(on_stop_request));
  loop_ = loop->get();
  engine_ = &engine;
  metrics_ = std::make_unique<MetricsPage>([this](MetricsPage::Deliver deliver) {
    Engine* const source = engine_;
    loop_->post([source, deliver = std::move(deliver)] { deliver(source->metrics()); });
  });
  TaskScope scope;
  scope.spawn(open_engine(&engine, &startup.opened));
  (*loop)->run();
  end_posted_.acquire();
  BM_CHECK(scope.running() == 0);
  gave_up_ = engine.gave_up();
  unclosed_ = engine.unclosed();
  left_behind_ = !gave_up_ && engine.left_behind();
  if (left_behind_ && !engine.leave_journal()) {
    closed_ = Error(ErrorCode::kTimedOut, "what the journal was asked has not ended in time");
    gave_up_ = true;
  }
  const bool stays = gave_up_ || left_behind_;
  ended_.release();
  // What hangs may come back at any time, and must find here what it works on. The Daemon itself
  // may have gone by then.
  while (stays) ::pause();
}

ControlResponse Daemon::handle(const ControlRequest& request) {
  if (stopping_.load()) return refuse_stopping();
  if (request.method == "GET" && request.path == kMetricsPath) {
    return {200, metrics_->text(), kMetricsContentType};
  }
  auto call = std::make_shared<Call>();
  call->request = request;
  std::future<ControlResponse> response = call->response.get_future();
  Engine* engine = engine_;
  loop_->post([engine, call] { engine->requests().spawn(carry_out(engine, call)); });
  call.reset();
  if (response.wait_for(kControlPatience) != std::future_status::ready) {
    ControlResponse late = error_response(Error(
        ErrorCode::kTimedOut, "the daemon is still busy with " + request.method + " " +
                                  request.path + " after " + format_duration(kControlPatience) +
                                  ": it goes on with it; maybe a store does not answer: see "
                                  "its log"));
    late.status = 503;
    return late;
  }
  try {
    return response.get();
  } catch (const std::future_error&) {
    // The loop ended before it came to this request.
    return refuse_stopping();
  }
}

template <typename T>
T Daemon::ask_on_loop(std::function<T(Engine&)> ask) {
  auto answer = std::make_shared<std::promise<T>>();
  std::future<T> result = answer->get_future();
  loop_->post(
      [engine = engine_, ask = std::move(ask), answer] { answer->set_value(ask(*engine)); });
  return result.get();
}

template <typename T>
T Daemon::await_on_loop(std::function<Task<T>(Engine&)> begin) {
  auto answer = std::make_shared<std::promise<T>>();
  std::future<T> result = answer->get_future();
  loop_->post([engine = engine_, begin = std::move(begin), answer] {
    auto work = begin(*engine);
    engine->requests().spawn(deliver<T>(std::move(work), answer));
  });
  return result.get();
}

Status Daemon::open_inherited() {
  return ask_on_loop<Status>([](Engine& engine) { return engine.open_inherited(); });
}

std::uint64_t Daemon::bwlimit() {
  return ask_on_loop<std::uint64_t>([](Engine& engine) { return engine.bwlimit(); });
}

Result<Handover> Daemon::park(Duration patience, Stragglers stragglers) {
  return await_on_loop<Result<Handover>>(
      [=](Engine& engine) { return engine.park(patience, stragglers); });
}

Status Daemon::check_successor(Duration patience) {
  return await_on_loop<Status>([=](Engine& engine) { return engine.check_successor(patience); });
}

Status Daemon::resume_disks(const Handover& handover, ResumedDisks which) {
  return await_on_loop<Status>(
      [&](Engine& engine) { return engine.resume_disks(handover, which); });
}

Status Daemon::resume_clients(const Handover& handover) {
  return ask_on_loop<Status>([&](Engine& engine) { return engine.resume_clients(handover); });
}

Status Daemon::serve_wanted(const std::vector<ServeRequest>& disks, bool alone) {
  return await_on_loop<Status>(
      [&disks, alone](Engine& engine) { return engine.serve_wanted(disks, alone); });
}

Status Daemon::stop() {
  if (!thread_.joinable()) return closed_;
  stopping_.store(true);
  if (loop_ != nullptr) {
    TaskScope scope;
    IoLoop* loop = loop_;
    Engine* engine = engine_;
    Status* closed = &closed_;
    loop->post([&scope, loop, engine, closed] { scope.spawn(close_engine(loop, engine, closed)); });
    end_posted_.release();
    ended_.acquire();
    if (gave_up_ || left_behind_) {
      thread_.detach();
    } else {
      thread_.join();
    }
    loop_ = nullptr;
    return closed_;
  }
  thread_.join();
  return closed_;
}

Daemon::~Daemon() {
  const Status stopped = stop();
  (void)stopped;  // whoever cares called stop() before
}

}  // namespace blockmig
