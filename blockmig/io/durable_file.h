// SPDX-License-Identifier: Apache-2.0
// Names and small files that must outlive a power loss: a file's name is durable once its folder
// was synced, and a file is replaced by a rename, so that whoever reads it finds the old content or
// the new one, whole. Thread rule: any thread; blocks. Errors: what the filesystem says, with the
// path.
#pragma once

#include <sys/types.h>

#include <string>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"

namespace blockmig {

/// "/srv" for "/srv/a.img", "." for "a.img".
std::string parent_folder(const std::string& path);

/// Makes durable which names are in the folder. A filesystem that cannot sync folders says EINVAL:
/// it has no more to offer, so that is no error.
Status sync_folder(const std::string& folder);
/// The folder that `path` is in.
Status sync_folder_of(const std::string& path);

/// Creates the file, or empties it, and puts `bytes` on stable storage. Its name may still go with
/// a power loss. kNoSpace where only a part of it fits; then the part is there.
Status write_durably(const std::string& path, ConstBytes bytes, mode_t mode);

/// Gives the file `staged` the name `path`, durably, in place of what had it.
Status put_in_place(const std::string& staged, const std::string& path);

/// Both, by way of "PATH.new", which does not stay behind. On an error the file is as it was;
/// unless syncing its folder failed: then it may be the new one.
Status replace_file(const std::string& path, ConstBytes bytes, mode_t mode);

}  // namespace blockmig
