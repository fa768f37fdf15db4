// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/image_format.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace blockmig {

std::string_view foreign_format(ConstBytes beginning) {
  using namespace std::string_view_literals;
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kMagics = {{
      {"QFI\xfb"sv, "qcow2"sv},
      {"KDMV"sv, "VMDK"sv},
      {"vhdxfile"sv, "VHDX"sv},
      {"conectix"sv, "VHD"sv},
      {"QED\0"sv, "QED"sv},
  }};
  const std::string_view text(reinterpret_cast<const char*>(beginning.data()), beginning.size());
  for (const auto& [magic, name] : kMagics) {
    if (text.starts_with(magic)) return name;
  }
  return {};
}

Task<std::string_view> look_for_format(BlockDevice& image) {
  const std::size_t length = std::max<std::size_t>(kFormatMagicBytes, image.info().min_io_bytes);
  if (image.info().size_bytes < length) co_return std::string_view();
  std::vector<std::byte> beginning(length);
  const MutableBytes into(beginning);
  const Status read = co_await image.read(0, into);
  co_return read.ok() ? foreign_format(beginning) : std::string_view();
}

}  // namespace blockmig
