// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/log_writer.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <string_view>
#include <utility>

namespace blockmig {
namespace {

/// False: the descriptor does not take it.
bool write_all(int fd, std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = ::write(fd, line.data(), line.size());
    if (written > 0) {
      line.remove_prefix(static_cast<std::size_t>(written));
    } else if (written < 0 && errno == EAGAIN) {
      pollfd room{fd, POLLOUT, 0};  // somebody else has made it non-blocking
      (void)::poll(&room, 1, -1);
    } else if (written == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

struct LogWriter::Queue {
  void run();

  int fd = -1;
  std::function<std::string(std::uint64_t)> dropped_line;
  std::mutex mutex;
  std::condition_variable added;
  std::condition_variable progress;
  std::deque<std::string> lines;
  std::size_t bytes = 0;       ///< of `lines`
  std::uint64_t accepted = 0;  ///< lines, ever, and those about dropped ones
  std::uint64_t written = 0;   ///< of those
  std::uint64_t dropped = 0;   ///< after the last of `lines`, not yet said
  bool behind = false;         ///< somebody has waited in vain since all was written
  bool ends = false;
};

void LogWriter::Queue::run() {
  std::unique_lock lock(mutex);
  for (;;) {
    added.wait(lock, [this] { return ends || !lines.empty(); });
    if (lines.empty()) return;
    std::deque<std::string> batch = std::exchange(lines, {});
    const std::uint64_t left_out = std::exchange(dropped, 0);
    bytes = 0;
    if (left_out != 0) {
      ++accepted;  // a line too, and an end waits for it like for the others
      batch.push_back(dropped_line(left_out));
    }
    for (const std::string& line : batch) {
      lock.unlock();
      const bool taken = write_all(fd, line);
      lock.lock();
      if (!taken) ++dropped;
      ++written;
      progress.notify_all();
    }
    if (lines.empty()) behind = false;
  }
}

LogWriter::LogWriter(int fd, std::function<std::string(std::uint64_t)> dropped_line)
    : queue_(std::make_shared<Queue>()) {
  queue_->fd = fd;
  queue_->dropped_line = std::move(dropped_line);
  // Signals are for those who wait for them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([queue = queue_] { queue->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LogWriter::~LogWriter() {
  const bool written = flush(kLastPatience);
  {
    const std::lock_guard lock(queue_->mutex);
    queue_->ends = true;
  }
  queue_->added.notify_one();
  // One that a write does not let go ends with the process: no end waits for a reader of the log.
  written ? thread_.join() : thread_.detach();
}

void LogWriter::add(std::string line) {
  Queue& queue = *queue_;
  std::unique_lock lock(queue.mutex);
  if (queue.bytes + line.size() > kQueueBytes) {
    ++queue.dropped;
    return;
  }
  queue.bytes += line.size();
  queue.lines.push_back(std::move(line));
  const std::uint64_t number = ++queue.accepted;
  queue.added.notify_one();
  if (queue.behind) return;
  const bool there =
      queue.progress.wait_for(lock, kLinePatience, [&] { return queue.written >= number; });
  if (!there) queue.behind = true;
}

bool LogWriter::flush(Duration patience) {
  Queue& queue = *queue_;
  std::unique_lock lock(queue.mutex);
  const std::uint64_t last = queue.accepted;
  return queue.progress.wait_for(lock, patience, [&] { return queue.written >= last; });
}

}  // namespace blockmig
