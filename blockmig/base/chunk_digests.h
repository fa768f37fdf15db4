// SPDX-License-Identifier: Apache-2.0
// ChunkDigests: the XXH3-128 of every chunk that is known, and the digest of a whole image made of
// them.
//
// The image digest is XXH3-128 over the 16-byte big-endian digests of all chunks of 64 KiB in order
// (the last may be short), so any two images can be compared with it, whatever moved them, and a
// chunk that changed costs one chunk to re-hash. Chunks that were never set count as zeros. Thread
// rule: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/digest.h"

namespace blockmig {

/// The image digest of content that arrives in order.
class ImageDigest final {
 public:
  /// Successive content: a multiple of 64 KiB each time, except the last.
  void append(ConstBytes content);
  /// The digest of the next chunk, computed elsewhere.
  void append_chunk(const Digest& digest);
  /// `count` whole chunks of zeros: a sparse image has hundreds of millions.
  void append_zero_chunks(std::uint64_t count);
  Digest finish() const { return chunks_.finish(); }

 private:
  DigestStream chunks_;
};

class ChunkDigests final {
 public:
  /// The unit of the image digest, whatever granularity a job tracks with.
  static constexpr std::uint64_t kChunkBytes = 64 * 1024;

  explicit ChunkDigests(std::uint64_t size_bytes) : size_bytes_(size_bytes) {}
  ChunkDigests(const ChunkDigests& other);
  ChunkDigests& operator=(const ChunkDigests&) = delete;
  ChunkDigests(ChunkDigests&&) = default;
  ChunkDigests& operator=(ChunkDigests&&) = default;

  /// `bytes` are the content at `offset`: chunks that they cover whole are hashed, chunks that they
  /// cover in part become unknown.
  void set(std::uint64_t offset, ConstBytes bytes);
  /// The offset of the first chunk that `bytes`, the content at `offset`, cover whole and that has
  /// another digest. Chunks covered in part, and unknown ones, are not judged.
  std::optional<std::uint64_t> first_difference(std::uint64_t offset, ConstBytes bytes) const;
  /// What the chunks of the range hold is not known any more.
  void invalidate(std::uint64_t offset, std::uint64_t length);

  /// The digest of a chunk that was hashed elsewhere. `chunk` < chunk_count(), as everywhere here.
  void set_digest(std::uint64_t chunk, const Digest& digest);
  void set_zero(std::uint64_t chunk);
  /// What `from`, of an image of the same size, knows of the range's chunks, and what it does not.
  void take(const ChunkDigests& from, ByteRange range);
  /// The range holds zeros: as set(), quick over what was never set.
  void set_zeros(std::uint64_t offset, std::uint64_t length);
  /// Of a chunk of zeros that of zeros; nothing where it is not known.
  std::optional<Digest> find(std::uint64_t chunk) const;
  bool is_zero(std::uint64_t chunk) const;
  /// How many chunks from `chunk` on are all zeros, or all not; at least 1, at most `limit`. Quick
  /// over what was never set.
  std::uint64_t alike(std::uint64_t chunk, std::uint64_t limit) const;

  std::uint64_t size_bytes() const { return size_bytes_; }
  std::uint64_t chunk_count() const { return div_up(size_bytes_, kChunkBytes); }
  ByteRange chunk_range(std::uint64_t chunk) const;

  /// A run of chunks that are not zeros.
  struct Run {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    bool known = false;  ///< each has a digest
    friend bool operator==(const Run&, const Run&) = default;
  };
  /// All of them, ascending; neighbours of one kind are one run.
  std::vector<Run> runs() const;

  /// Of neighbours that are kept together by whoever records digests.
  static constexpr std::uint64_t kGroupChunks = 256;
  std::uint64_t group_count() const { return div_up(chunk_count(), kGroupChunks); }
  /// The groups in which something was set, or became unknown, since the last call. What was never
  /// set is in none.
  std::vector<std::uint64_t> take_changed();
  /// From now on every group of which anything was ever set counts as changed.
  void change_all();

  std::uint64_t unknown_chunks() const { return unknown_; }
  /// First unknown chunk at or after the chunk of `offset`, as a byte range.
  std::optional<ByteRange> next_unknown(std::uint64_t offset) const;
  /// Requires unknown_chunks() == 0.
  Digest image() const;

 private:
  static constexpr std::uint64_t kPageChunks = 1024;
  enum class Known : unsigned char { kZero, kDigest, kUnknown };
  static constexpr std::uint64_t kPageGroups = kPageChunks / kGroupChunks;
  struct Page {
    std::vector<Digest> digests;  ///< empty until the first of the page is known
    Known known[kPageChunks] = {};
    unsigned char changed = 0;  ///< a bit for each of its groups
  };
  Page& page(std::uint64_t chunk);
  const Page* find_page(std::uint64_t chunk) const;
  void change(std::uint64_t chunk, Known to);

  std::uint64_t size_bytes_;
  std::uint64_t unknown_ = 0;
  std::unordered_map<std::uint64_t, std::unique_ptr<Page>> pages_;
  std::vector<std::uint64_t> changed_pages_;  ///< each once
};

/// XXH3-128 of `length` zero bytes (at most one chunk); cached for whole chunks.
Digest zero_chunk_digest(std::uint64_t length);

}  // namespace blockmig
