// SPDX-License-Identifier: Apache-2.0
// What the tests of block/ share: a temporary folder, NBD servers as child processes, and a device
// that is called without coroutines.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/block/block_device.h"
#include "blockmig/block/file_device.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/run_task.h"
#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {

using Bytes = std::vector<std::byte>;

Bytes random_bytes(Random& random, std::size_t size);
Bytes filled(std::size_t size, int value);

/// A loop of the kind, or null where this host refuses it (io_uring in containers).
std::unique_ptr<IoLoop> make_test_loop(LoopKind kind);

/// For the names of tests that run once per cache mode.
std::string cache_mode_name(const testing::TestParamInfo<CacheMode>& param);

void write_file(const std::string& path, ConstBytes content);
Bytes read_file(const std::string& path);
bool exists(const std::string& path);
/// Bytes that the filesystem has allocated for it.
std::uint64_t allocated_bytes(const std::string& path);

/// A child process; killed by its id and reaped at the latest when destroyed.
class ChildProcess final {
 public:
  explicit ChildProcess(const std::vector<std::string>& command);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void signal(int number);
  /// Kills and reaps it.
  void kill();
  /// Reaps it; its exit code, or -1 after a signal.
  int wait();
  bool running();

 private:
  pid_t pid_ = -1;
};

/// An NBD server on a unix socket in `folder`; returns when it accepts connections.
class NbdServerProcess final {
 public:
  /// nbdkit with these arguments: filters, plugin, parameters.
  static std::unique_ptr<NbdServerProcess> nbdkit(const TemporaryFolder& folder,
                                                  std::vector<std::string> arguments);
  /// qemu-nbd exporting the raw file `image`.
  static std::unique_ptr<NbdServerProcess> qemu(const TemporaryFolder& folder,
                                                const std::string& image);

  /// Of the default export.
  std::string uri() const { return "nbd+unix:///?socket=" + socket_; }
  const std::string& socket_path() const { return socket_; }
  ChildProcess& process() { return *process_; }

 private:
  NbdServerProcess(std::string socket, const std::vector<std::string>& command);
  std::string socket_;
  std::unique_ptr<ChildProcess> process_;
};

/// Calls a device one request at a time.
class SyncDevice final {
 public:
  SyncDevice(EventLoop& loop, BlockDevice& device) : loop_(loop), device_(device) {}

  Status write(std::uint64_t offset, ConstBytes from, WriteFlags flags = {}) {
    return run_task(loop_, device_.write(offset, from, flags));
  }
  Result<Bytes> read(std::uint64_t offset, std::size_t length) {
    Bytes into(length, std::byte{0x5A});
    const Status done = run_task(loop_, device_.read(offset, into));
    if (!done) return done.error();
    return into;
  }
  Result<Bytes> read_once(std::uint64_t offset, std::size_t length) {
    Bytes into(length, std::byte{0x5A});
    const Status done = run_task(loop_, device_.read_once(offset, into));
    if (!done) return done.error();
    return into;
  }
  Status write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags = {}) {
    return run_task(loop_, device_.write_zeroes(offset, length, flags));
  }
  Status trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags = {}) {
    return run_task(loop_, device_.trim(offset, length, flags));
  }
  Status flush() { return run_task(loop_, device_.flush()); }
  Result<std::vector<Extent>> extents(std::uint64_t offset, std::uint64_t length) {
    return run_task(loop_, device_.extents(offset, length));
  }
  Status close() { return run_task(loop_, device_.close()); }
  BlockDevice& device() { return device_; }

 private:
  EventLoop& loop_;
  BlockDevice& device_;
};

}  // namespace blockmig
