// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/history_engine.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

namespace blockmig::bench {
namespace {

constexpr int kConnectTimeoutSeconds = 10;
constexpr std::uint16_t kExportFlush = 1 << 2;
constexpr std::uint16_t kExportFua = 1 << 3;
constexpr std::uint16_t kExportWriteZeroes = 1 << 6;
constexpr std::uint64_t kHotSectors =
    128;  // two places where requests often meet: see choose_range
constexpr std::uint64_t kScanSectors = 1024;     // a read of 512 KiB
constexpr double kLongestBurst = 0.02;           // seconds of --rate that may be caught up at once
constexpr std::uint64_t kRetryNs = 100'000'000;  // after a refused connection
constexpr std::uint64_t kPrintedFailures = 20;

}  // namespace

HistoryEngine::HistoryEngine(const HistoryOptions& options)
    : options_(options), connector_(options.endpoint), random_(mix64(options.seed)) {}

HistoryEngine::~HistoryEngine() = default;

Status HistoryEngine::start() {
  for (unsigned i = 0; i < options_.connections; ++i) {
    const auto connection = connect_export(options_.endpoint, kConnectTimeoutSeconds);
    if (!connection) return connection.error();
    if (!history_) {
      const std::uint64_t size = connection->size_bytes;
      const std::uint64_t rest = size > options_.region_offset ? size - options_.region_offset : 0;
      const std::uint64_t bytes = options_.region_bytes ? options_.region_bytes : rest;
      sectors_ = bytes / kSectorBytes;
      if (bytes > rest || sectors_ < 2 * kHotSectors) {
        ::close(connection->fd);
        return Error(ErrorCode::kPrecondition, "the export has " + std::to_string(size) +
                                                   " bytes: the region does not fit, or is tiny");
      }
      export_flags_ = connection->flags;
      history_ = std::make_unique<SectorHistory>(sectors_);
    }
    adopt(*connection);
  }
  credited_ns_ = renewed_ns_ = figures_.reset_ns = now_ns();
  return {};
}

void HistoryEngine::adopt(const Connection& connection) {
  ++figures_.connections;
  links_.push_back(std::make_unique<HistoryLink>(
      connection.fd, options_.depth, options_.region_offset,
      [this](HistoryOperation& operation, std::uint32_t error) { completed(operation, error); }));
}

void HistoryEngine::failed(const std::string& what) {
  if (++figures_.errors > kPrintedFailures) return;
  if (figures_.first_error.empty()) figures_.first_error = what;
  std::fprintf(stderr, "history_client: %s\n", what.c_str());
}

std::uint64_t HistoryEngine::unanswered() const {
  return static_cast<std::uint64_t>(
      std::count_if(links_.begin(), links_.end(), [](const auto& l) { return !l->idle(); }));
}

bool HistoryEngine::all_idle() const { return unanswered() == 0; }

void HistoryEngine::hold() {
  if (state_ == EngineState::kRunning) state_ = EngineState::kDraining;
}

void HistoryEngine::resume() {
  if (state_ != EngineState::kHeld) return;
  credited_ns_ = renewed_ns_ = now_ns();
  state_ = EngineState::kRunning;
}

void HistoryEngine::scan() {
  scan_next_ = 0;
  state_ = EngineState::kScanning;
}

std::uint64_t HistoryEngine::longest_wait_ns() const {
  const std::uint64_t now = now_ns();
  std::uint64_t oldest = now;
  for (const auto& link : links_) oldest = link->oldest_start_ns(oldest);
  return std::max(
      {figures_.latency.max(), figures_.handshakes.max(), now - oldest, connector_.waiting_ns()});
}

void HistoryEngine::reset_figures() {
  figures_.latency.clear();
  figures_.handshakes.clear();
  figures_.requests = 0;
  figures_.reset_ns = now_ns();
}

void HistoryEngine::renew() {
  while (auto outcome = connector_.take()) {
    figures_.handshakes.add(outcome->took_ns);
    if (outcome->connection) {
      adopt(*outcome->connection);
    } else {
      failed("new connection: " + outcome->connection.error().message());
      refused_ns_ = now_ns();
    }
  }
  const auto live =
      static_cast<unsigned>(std::count_if(links_.begin(), links_.end(), [](const auto& l) {
        return !l->retired() && l->fatal().empty();
      }));
  const std::uint64_t now = now_ns();
  const bool patient = refused_ns_ != 0 && now - refused_ns_ < kRetryNs;
  if (live + connector_.pending() < options_.connections && !patient) connector_.request();
  const bool due =
      options_.renew_ms > 0 && static_cast<double>(now - renewed_ns_) > options_.renew_ms * 1e6;
  if (state_ == EngineState::kRunning && due && connector_.pending() == 0) {
    renewed_ns_ = now;
    for (auto& link : links_) {
      if (link->retired()) continue;
      link->retire();
      break;
    }
    connector_.request();
  }
}

void HistoryEngine::drop_finished_links() {
  for (std::size_t i = 0; i < links_.size();) {
    HistoryLink& link = *links_[i];
    if (!link.fatal().empty()) failed("connection lost: " + link.fatal());
    if (!link.fatal().empty() || (link.retired() && link.idle())) {
      links_.erase(links_.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
}

void HistoryEngine::advance() {
  if (state_ == EngineState::kDraining && all_idle()) {
    state_ = EngineState::kFlushing;
    flush_sent_ = flush_answered_ = (export_flags_ & kExportFlush) == 0;
  }
  if (state_ == EngineState::kFlushing && flush_answered_ && all_idle())
    state_ = EngineState::kHeld;
  if (state_ == EngineState::kScanning && scan_next_ == sectors_ && all_idle()) {
    state_ = EngineState::kHeld;
  }
}

bool HistoryEngine::next_operation(HistoryOperation* out) {
  switch (state_) {
    case EngineState::kRunning:
      if (options_.rate > 0 && credit_ < 1) return false;
      credit_ -= 1;
      if ((export_flags_ & kExportFlush) && random_.below(100) == 0) {
        out->command = Command::kFlush;
        return true;
      }
      choose_range(out);
      if (random_.below(100) < options_.write_percent) prepare_write(out);
      return true;
    case EngineState::kFlushing:
      if (flush_sent_) return false;
      flush_sent_ = true;
      out->command = Command::kFlush;
      return true;
    case EngineState::kScanning:
      if (scan_next_ == sectors_) return false;
      out->first_sector = scan_next_;
      out->sectors = static_cast<std::uint32_t>(std::min(kScanSectors, sectors_ - scan_next_));
      scan_next_ += out->sectors;
      return true;
    case EngineState::kDraining:
    case EngineState::kHeld:
      return false;
  }
  return false;
}

void HistoryEngine::choose_range(HistoryOperation* operation) {
  const std::uint64_t kind = random_.below(100);
  std::uint64_t sectors = 8;
  bool aligned = true;
  if (kind < 15) {
    sectors = 1 + random_.below(16);
    aligned = false;
  } else if (kind < 27) {
    sectors = 128;
  } else if (kind < 29) {
    sectors = options_.max_bytes / kSectorBytes;
  }
  sectors = std::min<std::uint64_t>({sectors, options_.max_bytes / kSectorBytes, sectors_});
  const std::uint64_t last = sectors_ - sectors;
  std::uint64_t first = random_.below(last + 1);
  const std::uint64_t place = random_.below(8);
  if (place == 0) first = std::min(last, random_.below(kHotSectors));  // the beginning, and
  if (place == 1)
    first = last - std::min(last, random_.below(kHotSectors));  // the odd-sized tail (I4)
  if (aligned && place > 1) first -= first % std::min<std::uint64_t>(sectors, 8);
  operation->first_sector = first;
  operation->sectors = static_cast<std::uint32_t>(sectors);
}

void HistoryEngine::prepare_write(HistoryOperation* operation) {
  const bool zeroes =
      (export_flags_ & kExportWriteZeroes) && random_.below(100) < options_.zero_percent;
  operation->command = zeroes ? Command::kWriteZeroes : Command::kWrite;
  operation->fua = (export_flags_ & kExportFua) && random_.below(50) == 0;
}

void HistoryEngine::fill_links() {
  const std::uint64_t now = now_ns();
  if (options_.rate > 0) {
    credit_ = std::min(credit_ + options_.rate * static_cast<double>(now - credited_ns_) / 1e9,
                       std::max(1.0, options_.rate * kLongestBurst));
  }
  credited_ns_ = now;
  bool more = true;
  while (more) {  // in turn, the newest connection first: a request on it must count at once
    more = false;
    for (auto link = links_.rbegin(); link != links_.rend(); ++link) {
      HistoryOperation operation;
      if (!(*link)->can_submit() || !next_operation(&operation)) continue;
      operation.start = history_->begin();
      operation.start_ns = now;
      if (operation.command == Command::kWrite) {
        operation.data.resize(std::size_t{operation.sectors} * kSectorBytes);
      }
      for (std::uint32_t i = 0; i < operation.sectors && operation.command != Command::kRead; ++i) {
        std::uint64_t hash = hash_of_zeros();
        if (operation.command == Command::kWrite) {
          char* sector = operation.data.data() + std::size_t{i} * kSectorBytes;
          stamp_sector(sector, options_.seed, operation.first_sector + i, operation.start);
          hash = hash_sector(sector);
        }
        history_->write_begins(operation.start, operation.first_sector + i, hash);
      }
      (*link)->submit(std::move(operation));
      more = true;
    }
  }
}

void HistoryEngine::completed(HistoryOperation& operation, std::uint32_t error) {
  figures_.latency.add(now_ns() - operation.start_ns);
  ++figures_.requests;
  if (error != 0) {
    failed("error " + std::to_string(error) + " for command " +
           std::to_string(static_cast<int>(operation.command)) + " at sector " +
           std::to_string(operation.first_sector));
  } else if (operation.command == Command::kRead) {
    check_sectors(operation.first_sector, operation.data.data(), operation.sectors, operation.start,
                  "read");
  } else {
    const Tick at = history_->now();
    for (std::uint32_t i = 0; i < operation.sectors; ++i) {
      history_->write_ended(operation.start, operation.first_sector + i, at);
    }
  }
  if (operation.command == Command::kFlush) flush_answered_ = true;
  history_->end(operation.start);
}

void HistoryEngine::check_sectors(std::uint64_t first, const char* data, std::uint64_t count,
                                  Tick start, const std::string& where) {
  const Tick at = history_->now();
  for (std::uint64_t i = 0; i < count; ++i) {
    const char* sector = data + i * kSectorBytes;
    ++figures_.sectors_read;
    if (history_->read_ended(start, first + i, hash_sector(sector), at)) continue;
    if (options_.tolerate_torn && history_->written_since(first + i, start)) {
      ++figures_.torn;
      continue;
    }
    if (++figures_.violations <= kPrintedFailures) {
      std::fprintf(stderr, "history_client: %s of sector %llu gave %s, which is not possible\n",
                   where.c_str(), static_cast<unsigned long long>(first + i),
                   describe_sector(sector, options_.seed).c_str());
    }
  }
}

Result<std::uint64_t> HistoryEngine::check_file(const std::string& path) {
  const std::uint64_t before = figures_.violations;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error::from_errno(errno, path);
  std::vector<char> buffer(kScanSectors * kSectorBytes);
  for (std::uint64_t at = 0; at < sectors_; at += kScanSectors) {
    const std::uint64_t count = std::min(kScanSectors, sectors_ - at);
    const ssize_t n = ::pread(fd, buffer.data(), count * kSectorBytes,
                              static_cast<off_t>(options_.region_offset + at * kSectorBytes));
    if (n != static_cast<ssize_t>(count * kSectorBytes)) {
      ::close(fd);
      return Error(ErrorCode::kPrecondition, path + " is shorter than the region");
    }
    const Tick start = history_->begin();
    check_sectors(at, buffer.data(), count, start, path);
    history_->end(start);
  }
  ::close(fd);
  return figures_.violations - before;
}

void HistoryEngine::step(int timeout_ms, const std::vector<int>& extra_fds) {
  renew();
  advance();
  fill_links();
  polled_.clear();
  for (const auto& link : links_) {
    link->flush_output();
    const auto events = static_cast<short>(POLLIN | (link->wants_to_send() ? POLLOUT : 0));
    polled_.push_back({.fd = link->fd(), .events = events, .revents = 0});
  }
  polled_.push_back({.fd = connector_.ready_fd(), .events = POLLIN, .revents = 0});
  for (const int fd : extra_fds) polled_.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  ::poll(polled_.data(), polled_.size(), timeout_ms);
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (polled_[i].revents & ~POLLOUT) links_[i]->receive();
  }
  drop_finished_links();
  advance();
}

}  // namespace blockmig::bench
