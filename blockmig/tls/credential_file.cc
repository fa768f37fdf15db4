// SPDX-License-Identifier: Apache-2.0
#include "blockmig/tls/credential_file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

Error refused(const std::string& path, const std::string& purpose, const std::string& why) {
  return Error(ErrorCode::kPrecondition, purpose + " " + path + " " + why);
}

}  // namespace

Result<std::string> read_credential_file(const std::string& path, const std::string& purpose,
                                         Secrecy secrecy) {
  // Not blocking: a pipe put in the file's place must not hang the program.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0 && errno == ENOENT) {
    return Error(ErrorCode::kNotFound, purpose + " " + path + " does not exist; create it", ENOENT);
  }
  if (file.get() < 0) {
    return refused(path, purpose,
                   std::string("cannot be read (") + ::strerrordesc_np(errno) +
                       "); let the user that runs this program read it");
  }
  struct stat facts {};
  if (::fstat(file.get(), &facts) != 0) return Error::from_errno(errno, "stat " + path);
  if (!S_ISREG(facts.st_mode)) return refused(path, purpose, "is not a regular file");
  if (secrecy == Secrecy::kSecret && (facts.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
    return refused(path, purpose,
                   "can be used by everybody, or written by its group; run: chmod 0600 " + path);
  }
  if (facts.st_size > static_cast<off_t>(kMaxCredentialFileBytes)) {
    return refused(path, purpose, "is larger than 1 MiB");
  }
  std::string content(static_cast<std::size_t>(facts.st_size), '\0');
  std::size_t filled = 0;
  while (filled < content.size()) {
    const ssize_t got = ::read(file.get(), content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read " + path);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  content.resize(filled);
  if (content.empty()) return refused(path, purpose, "is empty");
  return content;
}

bool credential_file_exists(const std::string& path) {
  struct stat facts {};
  // A name that cannot be looked at counts: leaving it out silently could weaken what it is for.
  return ::stat(path.c_str(), &facts) == 0 || errno != ENOENT;
}

void wipe(std::string& secret) {
  ::explicit_bzero(secret.data(), secret.size());
  secret.clear();
}

}  // namespace blockmig
