// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/io_thread.h"

#include <pthread.h>

#include <algorithm>
#include <future>
#include <utility>

namespace blockmig {
namespace {

constexpr std::size_t kMaxNameBytes = 15;

}  // namespace

Result<std::unique_ptr<IoThread>> IoThread::start(const IoLoopOptions& options, std::string name) {
  std::unique_ptr<IoThread> thread(new IoThread());
  std::promise<Result<IoLoop*>> made;
  std::future<Result<IoLoop*>> loop = made.get_future();
  // The loop is made, used and destroyed on its thread: some kernels tie its ring to that.
  thread->thread_ =
      std::thread([options, made = std::move(made), &released = thread->released_]() mutable {
        Result<std::unique_ptr<IoLoop>> own = make_io_loop(options);
        if (!own) {
          made.set_value(own.error());
          return;
        }
        made.set_value(own->get());
        (*own)->run();
        released.acquire();
      });
  name.resize(std::min(name.size(), kMaxNameBytes));
  (void)pthread_setname_np(thread->thread_.native_handle(), name.c_str());
  const Result<IoLoop*> ready = loop.get();
  if (!ready) {
    thread->thread_.join();
    return ready.error();
  }
  thread->loop_ = *ready;
  return thread;
}

void IoThread::stop() {
  if (!thread_.joinable()) return;
  if (loop_ != nullptr) {
    loop_->stop();
    released_.release();
  }
  thread_.join();
  loop_ = nullptr;
}

}  // namespace blockmig
