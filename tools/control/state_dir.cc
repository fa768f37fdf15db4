// SPDX-License-Identifier: Apache-2.0
#include "tools/control/state_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

namespace blockmig {
namespace {

constexpr int kLockAttempts = 20;

std::string lock_path(const std::string& state_dir) { return state_dir + "/lock"; }

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before threads start
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

/// Who wrote its process id into the lock file; the lock, not the number, is what keeps others out.
std::string holder_of(int lock_fd) {
  char text[16] = {};
  const ssize_t length = pread(lock_fd, text, sizeof(text), 0);
  int pid = 0;
  const char* const end = text + std::max<ssize_t>(length, 0);
  const auto parsed = std::from_chars(text, end, pid);
  if (parsed.ec == std::errc() && pid > 0) return "process " + std::to_string(pid);
  return "another process";  // which has locked it this moment
}

}  // namespace

StateDirEnvironment StateDirEnvironment::from_process() {
  return {variable("XDG_STATE_HOME"), variable("HOME"), geteuid() == 0};
}

Result<std::string> resolve_state_dir(const std::string& from_option,
                                      const StateDirEnvironment& environment) {
  if (!from_option.empty()) {
    std::error_code failed;
    const auto absolute = std::filesystem::absolute(from_option, failed);
    if (failed) {
      return Error::from_errno(failed.value(), "cannot make '" + from_option + "' absolute");
    }
    return absolute.string();
  }
  if (environment.xdg_state_home && environment.xdg_state_home->starts_with('/')) {
    return *environment.xdg_state_home + "/blockmig";
  }
  if (environment.root) return std::string("/var/lib/blockmig");
  if (environment.home && environment.home->starts_with('/')) {
    return *environment.home + "/.local/state/blockmig";
  }
  return Error(ErrorCode::kNotFound,
               "no state folder: neither XDG_STATE_HOME nor HOME is set: give --state-dir");
}

std::string control_socket_path(const std::string& state_dir) {
  return state_dir + "/control.sock";
}
std::string nbd_socket_path(const std::string& state_dir) { return state_dir + "/nbd.sock"; }
std::string journal_path(const std::string& state_dir) { return state_dir + "/journal"; }
std::string handover_socket_path(const std::string& state_dir) {
  return state_dir + "/handover.sock";
}

Result<UniqueFd> lock_handover(const std::string& state_dir) {
  const std::string path = state_dir + "/handover.lock";
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return Error::from_errno(errno, "cannot open '" + path + "'");
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return Error::from_errno(errno, "cannot lock '" + path + "'");
  return Error(ErrorCode::kBusy, "another process is taking the place of the daemon of '" +
                                     state_dir + "' already: try again when it has done so");
}

Status check_socket_path(const std::string& path) {
  constexpr std::size_t kLongest = sizeof(sockaddr_un{}.sun_path) - 1;
  if (path.size() <= kLongest) return {};
  return Error(ErrorCode::kPrecondition,
               "the socket path '" + path + "' is too long: " + std::to_string(path.size()) +
                   " bytes, at most " + std::to_string(kLongest) + ": choose a shorter folder");
}

bool state_dir_is_held(const std::string& state_dir) {
  const UniqueFd fd(open(lock_path(state_dir).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  return fd && flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

Result<StateDirLock> StateDirLock::acquire(const std::string& state_dir) {
  std::error_code failed;
  const std::filesystem::path parent = std::filesystem::path(state_dir).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, failed);
  if (failed) {
    return Error::from_errno(failed.value(), "cannot create the folder '" + parent.string() + "'");
  }
  if (mkdir(state_dir.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::from_errno(errno, "cannot create the state folder '" + state_dir + "'");
  }
  const std::string path = lock_path(state_dir);
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return Error::from_errno(errno, "cannot open '" + path + "'");
  // Who only looks whether it is held (state_dir_is_held) has it for an instant.
  int locked = flock(fd.get(), LOCK_EX | LOCK_NB);
  for (int i = 0; i < kLockAttempts && locked != 0 && errno == EWOULDBLOCK; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    locked = flock(fd.get(), LOCK_EX | LOCK_NB);
  }
  if (locked != 0) {
    if (errno != EWOULDBLOCK) return Error::from_errno(errno, "cannot lock '" + path + "'");
    return Error(ErrorCode::kBusy, "the state folder '" + state_dir + "' is in use by " +
                                       holder_of(fd.get()) +
                                       ": stop it, or give another --state-dir");
  }
  StateDirLock lock(std::move(fd));
  const Status signed_by_us = lock.sign();
  if (!signed_by_us) return signed_by_us.error().with_context(path);
  return lock;
}

Result<StateDirLock> StateDirLock::adopt(UniqueFd fd) {
  StateDirLock lock(std::move(fd));
  const Status signed_by_us = lock.sign();
  if (!signed_by_us) return signed_by_us.error();
  return lock;
}

Status StateDirLock::sign() const {
  const std::string pid = std::to_string(getpid()) + "\n";
  if (ftruncate(fd_.get(), 0) != 0 ||
      pwrite(fd_.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return Error::from_errno(errno, "cannot write the lock of the state folder");
  }
  return {};
}

}  // namespace blockmig
