// SPDX-License-Identifier: Apache-2.0
// Containers of digests: record_codec.h.
#include <utility>

#include "blockmig/base/endian.h"
#include "blockmig/journal/record_codec.h"
#include "blockmig/journal/record_format.h"
#include "blockmig/journal/record_frame.h"

namespace blockmig {
namespace {

namespace format = record_format;
using format::Kind;
using record_frame::checked;
using record_frame::damaged;
using record_frame::open_frame;
using record_frame::Reader;
using record_frame::Writer;

using Bits = std::bitset<kDigestsPerContainer>;

/// As a region's: bit i % 8 of byte i / 8, without zero bytes at the end.
std::string text_of(const Bits& bits) {
  std::string text(kDigestsPerContainer / 8, '\0');
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (bits[i])
      text[i / 8] = static_cast<char>(static_cast<unsigned char>(text[i / 8]) | 1 << i % 8);
  }
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

bool read_bits(const std::string& text, Bits& bits) {
  if (text.size() > kDigestsPerContainer / 8) return false;
  for (std::size_t i = 0; i < text.size() * 8; ++i) {
    bits[i] = (static_cast<unsigned char>(text[i / 8]) >> i % 8 & 1) != 0;
  }
  return true;
}

}  // namespace

Result<std::string> encode_digests(const RegionSetId& set, const DigestContainer& container) {
  if (container.digests.size() != container.known.count() ||
      (container.known & container.zeros).any()) {
    return Error(ErrorCode::kInvalid, "digests of '" + set.name + "' that do not fit their chunks");
  }
  std::string digests(container.digests.size() * format::kDigestBytes, '\0');
  for (std::size_t i = 0; i < container.digests.size(); ++i) {
    store_be(digests.data() + i * format::kDigestBytes, container.digests[i].high);
    store_be(digests.data() + i * format::kDigestBytes + 8, container.digests[i].low);
  }
  Writer writer;
  writer.text(set.disk);
  writer.text(set.name);
  writer.number(container.index);
  writer.text(text_of(container.zeros));
  writer.text(text_of(container.known));
  writer.bytes(digests);
  const std::string key = digest_key(set, container.index);
  return checked(key, set.disk.empty() ? set.disk : set.name, writer.frame(Kind::kDigests, key));
}

Result<DigestContainer> decode_digests(std::string_view key, std::string_view value) {
  const auto opened = open_frame(Kind::kDigests, key, value);
  if (!opened) return opened.error();
  Reader reader(opened->payload);
  RegionSetId set;
  set.disk = reader.text();
  set.name = reader.text();
  const std::uint64_t index = reader.number();
  DigestContainer container;
  const bool fits =
      read_bits(reader.text(), container.zeros) && read_bits(reader.text(), container.known);
  const std::string_view digests = reader.rest();
  if (!reader.finished() || !fits || index > 0xffffffffU ||
      (container.known & container.zeros).any() ||
      digests.size() != container.known.count() * format::kDigestBytes ||
      digest_key(set, static_cast<std::uint32_t>(index)) != key) {
    return damaged(key, "payload");
  }
  container.index = static_cast<std::uint32_t>(index);
  for (std::size_t at = 0; at < digests.size(); at += format::kDigestBytes) {
    container.digests.push_back({load_be<std::uint64_t>(digests.data() + at),
                                 load_be<std::uint64_t>(digests.data() + at + 8)});
  }
  return container;
}

Result<EncodedChange> encode_change(const DigestChange& change) {
  if (change.put.size() + change.erase.size() > kMaxContainersPerChange) {
    return Error(ErrorCode::kInvalid, "a change of the digests of '" + change.set.name + "' has " +
                                          std::to_string(change.put.size() + change.erase.size()) +
                                          " containers");
  }
  EncodedChange encoded;
  for (const DigestContainer& container : change.put) {
    auto value = encode_digests(change.set, container);
    if (!value) return value.error();
    encoded.put.emplace_back(digest_key(change.set, container.index), *std::move(value));
  }
  for (const std::uint32_t index : change.erase) {
    encoded.remove.push_back(digest_key(change.set, index));
  }
  return encoded;
}

void leave_out_digests(EncodedBatch& batch) {
  for (; batch.digests > 0; --batch.digests) {
    batch.removed_keys.push_back(std::move(batch.puts.back().first));
    batch.puts.pop_back();
  }
}

}  // namespace blockmig
