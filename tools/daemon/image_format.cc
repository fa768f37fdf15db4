// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/image_format.h"

#include <array>
#include <utility>

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

}  // namespace blockmig
