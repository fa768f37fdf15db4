// SPDX-License-Identifier: Apache-2.0
// Fuzz target: everything that turns a device's answers into replies. Input: a byte for the style
// and flags, a block size exponent, then extents (two bytes length in units, one byte of flags),
// and the whole input once more as text and as data. Checked: descriptors cover a prefix of the
// range in whole blocks, never claim more than the extents do, and the encoders write exactly what
// they say.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "blockmig/base/check.h"
#include "nbdserver/block_status.h"
#include "nbdserver/reply_codec.h"
#include "nbdserver/zero_runs.h"

namespace blockmig::nbd {
namespace {

void check_status(std::span<const std::uint8_t> input) {
  const bool extended = (input[0] & 1) != 0;
  StatusRange range;
  range.minimum_block = 1u << (input[1] % 17);
  range.offset = std::uint64_t{range.minimum_block} * (input[0] >> 4);
  range.one = (input[0] & 2) != 0;
  std::vector<Extent> extents;
  std::uint64_t at = range.offset;
  for (std::size_t i = 2; i + 3 <= input.size(); i += 3) {
    const std::uint64_t length = (std::uint64_t{input[i]} << 8 | input[i + 1]) * 64 + 1;
    extents.push_back({at, length, (input[i + 2] & 1) != 0, (input[i + 2] & 2) != 0});
    at += length;
  }
  range.length = std::max<std::uint64_t>(1, (at - range.offset) * (input[1] / 17 + 1) / 15);
  const auto answer = allocation_status(range, extents);
  if (range.one) BM_CHECK(answer.size() <= 1);
  std::uint64_t from = range.offset;
  for (const StatusExtent& each : answer) {
    BM_CHECK(each.length > 0);
    for (const Extent& extent : extents) {
      if (!ByteRange{from, each.length}.overlaps({extent.offset, extent.length})) continue;
      if ((each.flags & kStateHole) != 0) BM_CHECK(extent.hole);
      if ((each.flags & kStateZero) != 0) BM_CHECK(extent.zero);
    }
    from += each.length;
    const bool last = &each == &answer.back();
    BM_CHECK(last || (from - range.offset) % range.minimum_block == 0);
  }
  BM_CHECK(from <= range.offset + range.length);
  if (answer.empty()) return;
  const HeaderStyle style = extended ? HeaderStyle::kExtended : HeaderStyle::kStructured;
  std::vector<std::byte> out(block_status_bytes(style, answer.size()));
  BM_CHECK(encode_block_status(out.data(), Request{}, style, 1, answer, true) == out.size());
}

void check_text(std::string_view text) {
  std::vector<std::byte> out(kMaxErrorBytes);
  const std::uint64_t offset = 5;
  for (const HeaderStyle style :
       {HeaderStyle::kSimple, HeaderStyle::kStructured, HeaderStyle::kExtended}) {
    BM_CHECK(encode_error(out.data(), Request{}, style, WireError::kIo, text, &offset) <=
             out.size());
  }
  const std::string_view cut = cut_utf8(text, 7);
  BM_CHECK(cut.size() <= 7 && text.substr(0, cut.size()) == cut);
  if (is_wire_string(text)) BM_CHECK(is_wire_string(cut));
}

void check_runs(ConstBytes data) {
  ZeroRuns runs(data, data.size() * 77, 50);
  std::size_t at = 0;
  while (const auto run = runs.next()) {
    BM_CHECK(run->begin == at && run->length > 0 && run->length <= 50);
    if (run->zero) BM_CHECK(is_all_zero(data.subspan(run->begin, run->length)));
    at += run->length;
  }
  BM_CHECK(at == data.size());
}

}  // namespace
}  // namespace blockmig::nbd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace blockmig;
  if (size < 2) return 0;
  nbd::check_status({data, size});
  nbd::check_text({reinterpret_cast<const char*>(data), size});
  nbd::check_runs(std::as_bytes(std::span(data, size)));
  return 0;
}
