// SPDX-License-Identifier: Apache-2.0
// What can be known of a target before it is opened.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "blockmig/base/units.h"
#include "blockmig/block/free_space.h"
#include "blockmig/block/image_lock.h"
#include "blockmig/io/durable_file.h"
#include "blockmig/io/unique_fd.h"
#include "tools/daemon/begun_target.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {
namespace {

/// st_blocks counts in these (stat(3type)), whatever the filesystem's block size is.
constexpr std::uint64_t kStatBlockBytes = 512;

Status check_folder(const std::string& path) {
  const std::string folder = parent_folder(path);
  struct stat facts {};
  if (stat(folder.c_str(), &facts) != 0) {
    return Error(ErrorCode::kNotFound,
                 "the target's folder " + folder + " does not exist: create it first", errno);
  }
  if (!S_ISDIR(facts.st_mode)) {
    return Error(ErrorCode::kPrecondition, "the target's folder " + folder + " is not a folder");
  }
  if (path.ends_with('/')) {
    return Error(ErrorCode::kNotFound, "the target folder " + path + " does not exist");
  }
  return {};
}

std::uint64_t allocated_bytes(const struct stat& facts) {
  return static_cast<std::uint64_t>(facts.st_blocks) * kStatBlockBytes;
}

/// Room for what the source has allocated, less what the target has already. A source that is no
/// regular file does not say what it has allocated: then running out of space is found while
/// copying, and undone.
Status check_space(const TargetPlan& plan, const struct stat* target) {
  if (plan.source.kind != StoreUri::Kind::kFile) return {};
  struct stat source {};
  if (stat(plan.source.path.c_str(), &source) != 0 || !S_ISREG(source.st_mode)) return {};
  std::uint64_t needed = allocated_bytes(source);
  const std::uint64_t present = target != nullptr ? allocated_bytes(*target) : 0;
  needed = needed > present ? needed - present : 0;
  const Result<std::uint64_t> available = free_space_bytes(plan.target.path);
  if (!available) return available.error();
  if (*available >= needed) return {};
  return Error(ErrorCode::kNoSpace, "not enough space at " + plan.target.text +
                                        ": the disk needs " + format_bytes(needed) + ", free are " +
                                        format_bytes(*available));
}

Status check_file_target(const TargetPlan& plan, std::uint64_t size_bytes) {
  const std::string& path = plan.target.path;
  struct stat facts {};
  if (stat(path.c_str(), &facts) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) {
      return Error::from_errno(errno, "cannot look at the target " + path);
    }
    if (plan.begun_elsewhere) return is_away(plan);
    const Status folder = check_folder(path);
    if (!folder) return folder;
    if (plan.settling) {
      return Error(ErrorCode::kNotFound, "image " + path + " is not in its folder any more");
    }
    return check_space(plan, nullptr);
  }
  if (S_ISBLK(facts.st_mode)) return {};  // its size is known when it is open
  if (!S_ISREG(facts.st_mode)) {
    return Error(ErrorCode::kPrecondition,
                 "the target " + path + " is neither a regular file nor a block device");
  }
  const auto size = static_cast<std::uint64_t>(facts.st_size);
  if (size != size_bytes) {
    return Error(ErrorCode::kPrecondition, "the target " + path + " exists and is too " +
                                               (size < size_bytes ? "small" : "large") + ": " +
                                               std::to_string(size) + " bytes, the disk has " +
                                               std::to_string(size_bytes) +
                                               ": remove it, or name another file");
  }
  return check_space(plan, &facts);
}

/// Nobody needs what the target holds, by the stamp beside it.
Status check_owner(const TargetPlan& plan) {
  if (plan.returning) {
    if (plan.owners != nullptr) return plan.owners->check_return(move_of(plan));
    return Error(ErrorCode::kPrecondition, "a copy without a daemon cannot return anywhere");
  }
  if (plan.owners == nullptr) return {};
  if (plan.target.kind != StoreUri::Kind::kFile) {
    return check_not_anothers(plan.target, plan.lives);
  }
  if (plan.settling) return plan.owners->check_merge(move_of(plan));
  const auto stamp = read_stamp(plan.target.path);
  if (!stamp) {
    const ErrorCode code = stamp.error().code();
    // There is no such file yet, or none that can have a stamp; the rest is said when it is opened.
    const bool damaged = code == ErrorCode::kProtocol || code == ErrorCode::kPrecondition;
    return damaged ? Status(stamp.error()) : check_not_anothers(plan.target, plan.lives);
  }
  const Claimant who = plan.owners->claimant(plan.disk, plan.target, plan.epoch);
  // The disk's own, from before: what a record says of another disk there is older.
  const bool own = *stamp && (*stamp)->owner == who.owner && (*stamp)->disk == who.disk;
  const Status unknown = own ? Status() : check_not_anothers(plan.target, plan.lives);
  if (!unknown) return unknown;
  const auto judged = judge_target(*stamp, who);
  if (judged.ok()) return {};
  // One that lives says so better.
  const UniqueFd fd(::open(plan.target.path.c_str(), O_RDWR | O_CLOEXEC));
  const Status locked = fd ? lock_image(fd.get(), plan.target.path, false) : Status();
  return locked.ok() ? judged.error() : locked;
}

}  // namespace

StoreOwners::Move move_of(const TargetPlan& plan) {
  return {plan.disk,      plan.source,  plan.target,   plan.epoch,
          plan.returning, plan.resumed, plan.settling, plan.record};
}

StoreUri resolve_target(const TargetPlan& plan) {
  struct stat facts {};
  if (plan.target.kind != StoreUri::Kind::kFile || stat(plan.target.path.c_str(), &facts) != 0 ||
      !S_ISDIR(facts.st_mode)) {
    return plan.target;
  }
  const std::string name = plan.source.kind == StoreUri::Kind::kFile
                               ? std::filesystem::path(plan.source.path).filename().string()
                               : plan.disk;
  const auto path = std::filesystem::path(plan.target.path) / name;
  const Result<StoreUri> resolved = parse_store_uri("file://" + percent_encode_path(path.string()));
  return resolved.ok() ? *resolved : plan.target;
}

Status check_target(const TargetPlan& plan, std::uint64_t size_bytes) {
  if (plan.target.kind == StoreUri::Kind::kNull) {
    return Error(ErrorCode::kPrecondition,
                 "the target " + plan.target.text +
                     " keeps nothing: name a file, a block device or an NBD export");
  }
  if (stores_overlap(plan.target, plan.source)) {
    return Error(ErrorCode::kPrecondition, "the target " + plan.target.text +
                                               " is the store that disk '" + plan.disk +
                                               "' lives on already: name another one");
  }
  if (is_own_address(plan.target, plan.own_addresses)) {
    return Error(ErrorCode::kPrecondition,
                 "the target " + plan.target.text +
                     " is an export of this daemon itself: name the store behind it");
  }
  const Status unused = check_unused(plan.target, plan.uses);
  if (!unused) return unused;
  const Status ownable = check_owner(plan);
  if (!ownable) return ownable;
  if (plan.target.kind == StoreUri::Kind::kFile) return check_file_target(plan, size_bytes);
  return {};
}

}  // namespace blockmig
