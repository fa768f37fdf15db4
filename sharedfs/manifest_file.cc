// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/manifest_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "blockmig/base/endian.h"
#include "blockmig/io/durable_file.h"
#include "blockmig/io/file_calls.h"
#include "blockmig/io/unique_fd.h"
#include "sharedfs/manifest_format.h"

namespace blockmig {
namespace {

constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
/// Whoever may read the image may check it.
constexpr mode_t kManifestMode = 0644;

std::string staged_path(const std::string& image_path) {
  return manifest_path(image_path) + ".new";
}

Result<UniqueFd> open_manifest(const std::string& image_path) {
  const std::string path = manifest_path(image_path);
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) {
    return Error(ErrorCode::kNotFound, "image " + image_path + " has no manifest " + path +
                                           ": make one with 'blockmig manifest make'");
  }
  if (!fd) return Error::from_errno(errno, "cannot open " + path);
  return fd;
}

}  // namespace

std::string manifest_path(const std::string& image_path) { return image_path + ".manifest"; }

Result<Manifest> load_manifest(const std::string& image_path) {
  const std::string path = manifest_path(image_path);
  const auto fd = open_manifest(image_path);
  if (!fd) return fd.error();
  struct stat facts {};
  if (fstat(fd->get(), &facts) != 0) return Error::from_errno(errno, "cannot look at " + path);
  const auto size = static_cast<std::uint64_t>(facts.st_size);
  if (!S_ISREG(facts.st_mode) || size > manifest_format::kMaxManifestBytes) {
    return Error(ErrorCode::kProtocol, path + " is no manifest: it is no file of a fitting size");
  }
  std::vector<std::byte> bytes(size);
  const auto read = read_fully(fd->get(), bytes, 0);
  if (!read) return read.error().with_context("reading " + path);
  bytes.resize(*read);  // shorter than it was: its checksum tells
  Result<Manifest> manifest = decode_manifest(bytes);
  if (!manifest) return manifest.error().with_context(path);
  return manifest;
}

Result<ManifestHeader> load_manifest_header(const std::string& image_path) {
  namespace format = manifest_format;
  const auto fd = open_manifest(image_path);
  if (!fd) return fd.error();
  const std::string path = manifest_path(image_path);
  std::array<std::byte, format::kHeaderBytes + format::kMaxOwnerBytes> bytes;
  const auto read = read_fully(fd->get(), bytes, 0);
  if (!read) return read.error().with_context("reading " + path);
  const Error none(ErrorCode::kProtocol, path + " is no manifest");
  const bool whole = *read >= format::kHeaderBytes;
  if (!whole || std::memcmp(bytes.data(), format::kMagic.data(), format::kMagic.size()) != 0) {
    return none;
  }
  const auto owner_bytes = load_le<std::uint32_t>(bytes.data() + format::kOwnerBytesAt);
  if (owner_bytes > format::kMaxOwnerBytes || format::kHeaderBytes + owner_bytes > *read) {
    return none;
  }
  ManifestHeader header;
  header.generation = load_le<std::uint64_t>(bytes.data() + format::kGenerationAt);
  header.owner_epoch = load_le<std::uint64_t>(bytes.data() + format::kOwnerEpochAt);
  header.owner.assign(reinterpret_cast<const char*>(bytes.data() + format::kHeaderBytes),
                      owner_bytes);
  return header;
}

Status stage_manifest(const std::string& image_path, const Manifest& manifest) {
  const Status staged =
      write_durably(staged_path(image_path), encode_manifest(manifest), kManifestMode);
  if (!staged) discard_staged(image_path);
  return staged;
}

Status publish_staged(const std::string& image_path) {
  return put_in_place(staged_path(image_path), manifest_path(image_path));
}

void discard_staged(const std::string& image_path) { unlink(staged_path(image_path).c_str()); }

Status save_manifest(const std::string& image_path, const Manifest& manifest) {
  const Status staged = stage_manifest(image_path, manifest);
  return staged.ok() ? publish_staged(image_path) : staged;
}

Result<ImageFacts> look_at_image(const std::string& image_path) {
  struct stat facts {};
  if (stat(image_path.c_str(), &facts) != 0) {
    return Error::from_errno(errno, "cannot look at image " + image_path);
  }
  if (!S_ISREG(facts.st_mode)) {
    return Error(ErrorCode::kPrecondition,
                 image_path + " is no regular file: only files have manifests beside them");
  }
  ImageFacts found;
  found.identity.inode = facts.st_ino;
  found.identity.modified_ns = facts.st_mtim.tv_sec * kNanosecondsPerSecond + facts.st_mtim.tv_nsec;
  found.size_bytes = static_cast<std::uint64_t>(facts.st_size);
  return found;
}

Status check_identity(const std::string& image_path, const Manifest& manifest, bool unchanged) {
  const Result<ImageFacts> found = look_at_image(image_path);
  if (!found) return found.error();
  if (found->size_bytes != manifest.size_bytes()) {
    return Error(ErrorCode::kMismatch,
                 "image " + image_path + " has " + std::to_string(found->size_bytes) +
                     " bytes, its manifest says " + std::to_string(manifest.size_bytes()));
  }
  if (found->identity.inode != manifest.image.inode) {
    return Error(ErrorCode::kMismatch, "image " + image_path +
                                           " was replaced by another file after its manifest was "
                                           "made: 'blockmig manifest check --adopt' compares it "
                                           "whole and accepts it where it is the same");
  }
  if (unchanged && found->identity.modified_ns != manifest.image.modified_ns) {
    return Error(
        ErrorCode::kMismatch,
        "image " + image_path + " was modified after its manifest was made: make a new one");
  }
  return {};
}

}  // namespace blockmig
