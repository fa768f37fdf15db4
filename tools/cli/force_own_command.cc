// SPDX-License-Identifier: Apache-2.0
// blockmig force-own: takes an image from an owner that is gone for good, without a daemon.
#include <fcntl.h>

#include <cerrno>
#include <filesystem>

#include "blockmig/block/image_lock.h"
#include "blockmig/io/unique_fd.h"
#include "blockmig/journal/owner_file.h"
#include "blockmig/journal/owner_rules.h"
#include "tools/cli/commands.h"

namespace blockmig {
namespace {

/// Held until the change is made. kBusy: somebody lives who uses the image.
Result<UniqueFd> lock_owned_image(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return Error::from_errno(errno, "cannot open " + path);
  const Status locked = lock_image(fd.get(), path, false);
  if (locked.ok()) return fd;
  if (locked.error().code() != ErrorCode::kBusy) return locked.error();
  return Error(ErrorCode::kBusy,
               locked.error().message() + ": its owner lives, and no proof counts against that");
}

}  // namespace

ExitCode run_force_own(const CommandLine& command) {
  const std::string path = std::filesystem::absolute(command.subject).lexically_normal().string();
  const auto image = lock_owned_image(path);
  if (!image) return report(image.error());
  const auto before = change_stamp(
      path, [&](const std::optional<OwnerStamp>& stamp) -> Result<std::optional<OwnerStamp>> {
        const Status proven = judge_force(stamp, path, command.proof_epoch, command.proof_owner);
        if (!proven) return proven.error();
        OwnerStamp free;
        free.state = StampState::kReleased;
        free.place = stamp->place;
        free.disk = stamp->disk;
        // Whoever knew it at this epoch finds that it has gone on.
        free.epoch = stamp->epoch + 1;
        free.rest_uri = stamp->rest_uri;
        return std::optional(free);
      });
  if (!before) return report(before.error());
  print("image " + path + " is nobody's now: it holds what disk '" + (*before)->disk +
        "' had there at epoch " + std::to_string((*before)->epoch) + "\n");
  if (!(*before)->rest_uri.empty()) {
    print("it is NOT whole: what the disk had not fetched yet is at " + (*before)->rest_uri +
          " alone, and which of it that is only its journal knows\n");
  }
  return ExitCode::kOk;
}

}  // namespace blockmig
