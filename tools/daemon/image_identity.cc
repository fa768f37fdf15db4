// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/image_identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockmig/base/uri.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

std::string image_identity(const std::string& store_uri) {
  const Result<StoreUri> uri = parse_store_uri(store_uri);
  if (!uri || uri->kind != StoreUri::Kind::kFile) return "";
  const UniqueFd file(::open(uri->path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat facts {};
  if (!file || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return "";
  if (::fsync(file.get()) != 0) return "";
  return "size " + std::to_string(facts.st_size) + " changed " +
         std::to_string(facts.st_mtim.tv_sec) + "." + std::to_string(facts.st_mtim.tv_nsec);
}

}  // namespace blockmig
