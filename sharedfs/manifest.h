// SPDX-License-Identifier: Apache-2.0
// Manifest: what is known of an image at rest in a folder: its size, its generation, whose it is,
// and the digest of every chunk, so that what is fetched from the folder can be checked.
//
// A chunk without a digest is one that was changed after the digests were made: whoever took the
// image over has it elsewhere, and it is never fetched from here. Values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/chunk_digests.h"
#include "blockmig/base/error.h"

namespace blockmig {

/// Which file of the folder's filesystem the image is, and when its content last changed. The
/// device number is left out: it differs between the hosts that mount the folder.
struct RestIdentity {
  std::uint64_t inode = 0;
  std::int64_t modified_ns = 0;  ///< since 1970
  friend bool operator==(const RestIdentity&, const RestIdentity&) = default;
};

struct Manifest {
  explicit Manifest(std::uint64_t size_bytes) : digests(size_bytes) {}

  std::uint64_t generation = 1;   ///< grows whenever the manifest is replaced
  std::uint64_t owner_epoch = 0;  ///< of the disk that the image belongs to; 0: nobody's
  std::string owner;              ///< that disk's name
  /// The owner is on its way out of the image, or back into it: where it has chunks elsewhere, the
  /// image may hold anything. Nobody else may use it.
  bool changing = false;
  RestIdentity image;
  ChunkDigests digests;

  std::uint64_t size_bytes() const { return digests.size_bytes(); }
};

std::vector<std::byte> encode_manifest(const Manifest& manifest);
/// kProtocol: damaged, truncated, or no manifest, with the place. kPrecondition: a newer version.
Result<Manifest> decode_manifest(ConstBytes bytes);

}  // namespace blockmig
