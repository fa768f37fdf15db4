// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/block/store_fixture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "blockmig/base/check.h"

extern char** environ;

namespace blockmig {

Bytes random_bytes(Random& random, std::size_t size) {
  Bytes bytes(size);
  // Never zero, so that lost bytes show.
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(1 + random.below(255));
  return bytes;
}

Bytes filled(std::size_t size, int value) { return Bytes(size, static_cast<std::byte>(value)); }

std::unique_ptr<IoLoop> make_test_loop(LoopKind kind) {
  IoLoopOptions options;
  options.kind = kind;
  options.blocking_threads = 2;
  auto loop = make_io_loop(options);
  if (!loop) return nullptr;
  return std::move(*loop);
}

std::string cache_mode_name(const testing::TestParamInfo<CacheMode>& param) {
  switch (param.param) {
    case CacheMode::kBuffered:
      return "buffered";
    case CacheMode::kDirect:
      return "direct";
    case CacheMode::kMap:
      return "map";
  }
  return "unknown";
}

void write_file(const std::string& path, ConstBytes content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
  BM_CHECK(file.good());
}

Bytes read_file(const std::string& path) {
  Bytes content(std::filesystem::file_size(path));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(content.size()));
  BM_CHECK(file.good());
  return content;
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::uint64_t allocated_bytes(const std::string& path) {
  struct stat facts = {};
  BM_CHECK(::stat(path.c_str(), &facts) == 0);
  return static_cast<std::uint64_t>(facts.st_blocks) * 512;
}

ChildProcess::ChildProcess(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
  const int failed =
      ::posix_spawnp(&pid_, arguments[0], &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) pid_ = -1;
}

/// In order if it can: nbdkit's scripts keep a folder in /tmp that nobody else removes.
ChildProcess::~ChildProcess() {
  signal(SIGCONT);
  signal(SIGTERM);
  for (int tries = 0; tries < 200 && running(); ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  kill();
}

void ChildProcess::signal(int number) {
  if (pid_ > 0) ::kill(pid_, number);
}

void ChildProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  wait();
}

int ChildProcess::wait() {
  if (pid_ <= 0) return -1;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool ChildProcess::running() {
  if (pid_ <= 0) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

NbdServerProcess::NbdServerProcess(std::string socket, const std::vector<std::string>& command)
    : socket_(std::move(socket)), process_(std::make_unique<ChildProcess>(command)) {
  // Until it accepts: it says nothing when it is ready.
  for (;;) {
    BM_CHECK(process_->running() && "the NBD server did not start");
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    BM_CHECK(socket_.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    bool up = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    // qemu-nbd listens before it has opened (and locked) its image: it is up when it greets.
    char greeting[8];
    up = up && ::recv(fd, greeting, sizeof greeting, MSG_WAITALL) == sizeof greeting;
    ::close(fd);
    if (up) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

std::unique_ptr<NbdServerProcess> NbdServerProcess::nbdkit(const TemporaryFolder& folder,
                                                           std::vector<std::string> arguments) {
  const std::string socket = folder / "nbdkit.sock";
  ::unlink(socket.c_str());  // of a killed one before
  std::vector<std::string> command = {"nbdkit", "--foreground", "--exit-with-parent", "--unix",
                                      socket};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return std::unique_ptr<NbdServerProcess>(new NbdServerProcess(socket, command));
}

std::unique_ptr<NbdServerProcess> NbdServerProcess::qemu(const TemporaryFolder& folder,
                                                         const std::string& image) {
  const std::string socket = folder / "qemu.sock";
  return std::unique_ptr<NbdServerProcess>(
      new NbdServerProcess(socket, {"qemu-nbd", "--persistent", "--shared=8", "--format=raw",
                                    "--socket=" + socket, "--discard=unmap", image}));
}

}  // namespace blockmig
