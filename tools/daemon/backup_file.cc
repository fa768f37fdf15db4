// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/backup_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "blockmig/base/uri.h"
#include "blockmig/io/durable_file.h"
#include "blockmig/io/file_calls.h"
#include "blockmig/io/unique_fd.h"
#include "tools/daemon/image_identity.h"

namespace blockmig {
namespace {

constexpr std::size_t kMaxRecordBytes = 64 * 1024;
/// Whoever may read the copy may know what it is.
constexpr mode_t kRecordMode = 0644;

std::string names_of(const std::vector<BackupRecord::Bitmap>& bitmaps) {
  std::string names;
  for (const BackupRecord::Bitmap& bitmap : bitmaps) {
    names += (names.empty() ? "'" : ", '") + bitmap.name + "'";
  }
  return names.empty() ? "none" : names;
}

/// It is still the file that the record speaks of.
Status check_unchanged(const std::string& image, const BackupRecord& record) {
  bool same = true;
  // Not known of an incomplete one whose daemon was killed.
  if (record.complete || !record.image.empty()) {
    const Result<std::string> state = state_of_backup(image);
    if (!state) return state.error();
    same = *state == record.image;
  }
  if (!record.complete) {
    const Result<std::uint64_t> inode = inode_of_backup(image);
    if (!inode) return inode.error();
    same = same && *inode == record.inode;
  }
  if (same) return {};
  return Error(ErrorCode::kPrecondition, "copy " + image +
                                             " was changed since it was made: make a full one, "
                                             "without --since");
}

}  // namespace

std::string backup_record_path(const std::string& image_path) {
  std::error_code failed;
  const auto real = std::filesystem::canonical(image_path, failed);
  return (failed ? image_path : real.string()) + ".blockmig-backup";
}

Result<BackupRecord> load_backup_record(const std::string& image_path) {
  const std::string path = backup_record_path(image_path);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno == ENOENT) return Error(ErrorCode::kNotFound, "there is no " + path);
  if (!fd) return Error::from_errno(errno, "cannot open " + path);
  std::string text(kMaxRecordBytes, '\0');
  const auto read = read_fully(fd.get(), std::as_writable_bytes(std::span(text)), 0);
  if (!read) return read.error().with_context("reading " + path);
  text.resize(*read);
  Result<BackupRecord> record = backup_record_from_json(text);
  if (!record) return record.error().with_context(path);
  return record;
}

Status save_backup_record(const std::string& image_path, const BackupRecord& record) {
  const std::string path = backup_record_path(image_path);
  const std::string text = to_json(record) + "\n";
  return replace_file(path, std::as_bytes(std::span(text)), kRecordMode);
}

Status remove_backup_record(const std::string& image_path) {
  const std::string path = backup_record_path(image_path);
  if (::unlink(path.c_str()) == 0) return sync_folder_of(path);
  if (errno == ENOENT) return {};
  return Error::from_errno(errno, "cannot remove " + path);
}

Result<std::string> state_of_backup(const std::string& image_path) {
  const std::string state = image_identity("file://" + percent_encode_path(image_path));
  if (!state.empty()) return state;
  return Error(ErrorCode::kPrecondition,
               "copy " + image_path + " is no regular file that can be read and synced");
}

Result<std::uint64_t> inode_of_backup(const std::string& image_path) {
  struct stat facts {};
  if (::stat(image_path.c_str(), &facts) != 0) {
    return Error::from_errno(errno, "cannot look at " + image_path);
  }
  return static_cast<std::uint64_t>(facts.st_ino);
}

Status check_restorable(const std::string& image_path) {
  const Result<BackupRecord> record = load_backup_record(image_path);
  // No record, or none that could be read, says nothing against the image.
  if (!record || record->complete) return {};
  const Result<std::uint64_t> inode = inode_of_backup(image_path);
  if (!inode || *inode != record->inode) return {};
  return Error(ErrorCode::kPrecondition,
               "image " + image_path + " is an incomplete copy of disk '" + record->disk +
                   "', of no instant: complete it with 'blockmig backup', or remove " +
                   backup_record_path(image_path) + " to use it as it is");
}

Result<BackupRecord> check_backup_base(const std::string& image_path, std::uint64_t size_bytes,
                                       const BackupRecord::Bitmap& bitmap) {
  const std::string full = ": make a full copy, without --since";
  struct stat facts {};
  if (::stat(image_path.c_str(), &facts) != 0 && errno == ENOENT) {
    return Error(ErrorCode::kNotFound, "there is no copy " + image_path + " that what bitmap '" +
                                           bitmap.name + "' marks could be applied to" + full);
  }
  Result<BackupRecord> record = load_backup_record(image_path);
  if (!record && record.error().code() == ErrorCode::kNotFound) {
    return Error(ErrorCode::kPrecondition, image_path + " is no copy made by 'blockmig backup' (" +
                                               record.error().message() + ")" + full);
  }
  if (!record) return record;
  if (record->size_bytes != size_bytes) {
    return Error(ErrorCode::kPrecondition,
                 "copy " + image_path + " is of a disk of " + std::to_string(record->size_bytes) +
                     " bytes, this one has " + std::to_string(size_bytes) + full);
  }
  if (!record->complete && record->bitmaps.empty()) {
    return Error(ErrorCode::kPrecondition, "copy " + image_path + " was never complete" + full);
  }
  const bool covered = std::any_of(record->bitmaps.begin(), record->bitmaps.end(),
                                   [&bitmap](const auto& known) { return known.id == bitmap.id; });
  if (!covered) {
    return Error(ErrorCode::kPrecondition,
                 "bitmap '" + bitmap.name + "' does not say how copy " + image_path +
                     " (of disk '" + record->disk +
                     "') differs: it began after the copy's instant, or on another disk. Those "
                     "that do: " +
                     names_of(record->bitmaps));
  }
  const Status unchanged = check_unchanged(image_path, *record);
  if (!unchanged) return unchanged.error();
  return record;
}

}  // namespace blockmig
