// SPDX-License-Identifier: Apache-2.0
// Reading the files of credentials, with the checks that keep a secret one. Blocks; any thread.
#pragma once

#include <string>

#include "blockmig/base/error.h"

namespace blockmig {

/// A file of certificates or keys is never larger.
inline constexpr std::size_t kMaxCredentialFileBytes = 1 << 20;

enum class Secrecy {
  kPublic,
  kSecret,  ///< refused where everybody may read it, or others than its owner may write it
};

/// The whole file. kNotFound; kPrecondition: unreadable, not a regular file, empty, too large, or
/// its mode gives a secret away. Every message names the file, `purpose` and what to do.
Result<std::string> read_credential_file(const std::string& path, const std::string& purpose,
                                         Secrecy secrecy);
/// True if something of that name exists.
bool credential_file_exists(const std::string& path);
/// Overwrites a secret that is no longer needed.
void wipe(std::string& secret);

}  // namespace blockmig
