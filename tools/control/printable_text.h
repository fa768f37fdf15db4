// SPDX-License-Identifier: Apache-2.0
// Text from outside on its way to a terminal or into a line: nothing that either would obey. Pure.
#pragma once

#include <string>

namespace blockmig {

/// Every control character is a space: below U+0020, U+007F, and U+0080 to U+009F, which terminals
/// take for escape sequences too (they are c2 80 to c2 9f in UTF-8).
inline std::string printable(std::string text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) text[i] = ' ';
    const bool follows = byte == 0xc2 && i + 1 < text.size();
    if (follows && (static_cast<unsigned char>(text[i + 1]) & 0xe0u) == 0x80u) {
      text[i] = ' ';
      text[i + 1] = ' ';
    }
  }
  return text;
}

}  // namespace blockmig
