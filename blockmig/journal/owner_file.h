// SPDX-License-Identifier: Apache-2.0
// The file that holds an image's OwnerStamp: beside it, under its real name (links are followed).
//
// Two slots of fixed size, made when the file is: a change writes the older one and syncs it, so a
// crash leaves the old stamp or the new one, and a change needs no room on a full filesystem. A
// file that is blank or belongs to another image of that name says nothing. Changes are serialised
// by a lock on the file (flock). All functions block: call them off the loop, on any thread.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "blockmig/base/error.h"
#include "blockmig/journal/owner_stamp.h"

namespace blockmig {

/// "/srv/vm1.img.blockmig-owner".
std::string owner_file_of(const std::string& image_path);

/// What the filesystem says of the image now. kNotSupported: not a regular file: it can have no
/// stamp beside it.
struct ImageState {
  ImageIdentity identity;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;
};
Result<ImageState> look_at_owned_image(const std::string& image_path);

/// Nothing: there is no stamp of this image. kProtocol: damaged; kPrecondition: newer; both name
/// the file and the way out.
Result<std::optional<OwnerStamp>> read_stamp(const std::string& image_path);
/// Where read_stamp() finds nothing: what was said of another file of that name, if anything was.
/// Errors as there.
Result<std::optional<OwnerStamp>> read_stamp_of_another(const std::string& image_path);

/// Given what is there, what shall be: nothing removes the file. An error changes nothing and comes
/// back. The stamp's `image` is filled in. May be asked twice, where somebody else was quicker.
using StampChange =
    std::function<Result<std::optional<OwnerStamp>>(const std::optional<OwnerStamp>&)>;
/// On stable storage when it returns. kReadOnly: the file cannot be made or written here, by the
/// folder's or the filesystem's rules; other errors are the medium's. What was there.
Result<std::optional<OwnerStamp>> change_stamp(const std::string& image_path,
                                               const StampChange& change);

}  // namespace blockmig
