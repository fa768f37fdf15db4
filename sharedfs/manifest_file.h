// SPDX-License-Identifier: Apache-2.0
// Manifests as files beside their images. Every function blocks: call it off the loop. Any thread;
// two writers of one manifest are kept apart by the lock of its image, which they hold.
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/base/error.h"
#include "sharedfs/manifest.h"

namespace blockmig {

/// "/srv/folder/vm1.img.manifest"
std::string manifest_path(const std::string& image_path);

/// kNotFound: there is none. Else as decode_manifest(); messages name the path.
Result<Manifest> load_manifest(const std::string& image_path);

/// What its header gives, without reading the digests: a hint, unchecked by the checksum. Errors as
/// load_manifest().
struct ManifestHeader {
  std::uint64_t generation = 0;
  std::uint64_t owner_epoch = 0;
  std::string owner;
};
Result<ManifestHeader> load_manifest_header(const std::string& image_path);

/// Replaces the manifest of `image_path` by this one, whole or not at all: durable under its name
/// when it returns (I1). After an error the old one is there, or (where syncing the folder failed)
/// either.
Status save_manifest(const std::string& image_path, const Manifest& manifest);

/// The same in two steps: stage_manifest() writes and syncs it under another name, and then
/// publish_staged() replaces the manifest, which is quick. discard_staged() undoes the first step.
Status stage_manifest(const std::string& image_path, const Manifest& manifest);
Status publish_staged(const std::string& image_path);
void discard_staged(const std::string& image_path);

/// Of the file that the path leads to now. kNotFound: none.
struct ImageFacts {
  RestIdentity identity;
  std::uint64_t size_bytes = 0;
};
Result<ImageFacts> look_at_image(const std::string& image_path);

/// kMismatch, saying which of both is wrong: the image is another file than the manifest was made
/// for, or has another size. With `unchanged`, also where the image was modified since.
Status check_identity(const std::string& image_path, const Manifest& manifest, bool unchanged);

}  // namespace blockmig
