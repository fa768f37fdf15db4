// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/daemon.h"

#include <future>
#include <utility>

#include "tools/control/json.h"
#include "tools/control/state_dir.h"
#include "tools/daemon/engine.h"
#include "tools/daemon/serving_threads.h"

namespace blockmig {
namespace {

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

Task<void> park_engine(Engine* engine, Duration patience, Stragglers stragglers,
                       std::promise<Result<Handover>>* parked) {
  Result<Handover> handover = co_await engine->park(patience, stragglers);
  parked->set_value(std::move(handover));
}

Task<void> check_engine(Engine* engine, Duration patience, std::promise<Status>* checked) {
  const Status status = co_await engine->check_successor(patience);
  checked->set_value(status);
}

Task<void> resume_engine(Engine* engine, const Handover* handover, ResumedDisks which,
                         std::promise<Status>* resumed) {
  const Status status = co_await engine->resume_disks(*handover, which);
  resumed->set_value(status);
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
  std::unique_ptr<Journal> journal;
  if (options.private_journal) {
    journal = make_memory_journal(**loop);
  } else {
    Result<std::unique_ptr<Journal>> opened =
        open_rocks_journal(**loop, journal_path(options.state_dir));
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
    ControlResponse late = error_response(
        Error(ErrorCode::kTimedOut, "the daemon is still busy with " + request.method + " " +
                                        request.path +
                                        " after 5 s: it goes on; look at 'blockmig status'"));
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

Status Daemon::open_inherited() {
  auto opened = std::make_shared<std::promise<Status>>();
  std::future<Status> status = opened->get_future();
  Engine* engine = engine_;
  loop_->post([engine, opened] { opened->set_value(engine->open_inherited()); });
  return status.get();
}

Result<Handover> Daemon::park(Duration patience, Stragglers stragglers) {
  std::promise<Result<Handover>> parked;
  std::future<Result<Handover>> result = parked.get_future();
  loop_->post([engine = engine_, patience, stragglers, &parked] {
    engine->requests().spawn(park_engine(engine, patience, stragglers, &parked));
  });
  return result.get();
}

Status Daemon::check_successor(Duration patience) {
  std::promise<Status> checked;
  std::future<Status> result = checked.get_future();
  loop_->post([engine = engine_, patience, &checked] {
    engine->requests().spawn(check_engine(engine, patience, &checked));
  });
  return result.get();
}

Status Daemon::resume_disks(const Handover& handover, ResumedDisks which) {
  std::promise<Status> resumed;
  std::future<Status> result = resumed.get_future();
  loop_->post([engine = engine_, &handover, which, &resumed] {
    engine->requests().spawn(resume_engine(engine, &handover, which, &resumed));
  });
  return result.get();
}

Status Daemon::resume_clients(const Handover& handover) {
  std::promise<Status> resumed;
  std::future<Status> result = resumed.get_future();
  loop_->post([engine = engine_, &handover, &resumed] {
    resumed.set_value(engine->resume_clients(handover));
  });
  return result.get();
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
    thread_.join();
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
