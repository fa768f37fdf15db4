// SPDX-License-Identifier: Apache-2.0
#include "blockmig/tls/psk_file.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace blockmig {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> from_hex(std::string_view text) {
  if (text.empty() || text.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_value(text[i]);
    const int low = hex_value(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

Error bad_line(const std::string& path, std::size_t number, std::string_view why) {
  return Error(ErrorCode::kInvalid, path + ", line " + std::to_string(number) + ": " +
                                        std::string(why) +
                                        "; make one with: psktool -u USER -p FILE");
}

Result<PskKey> parse_line(std::string_view line, const std::string& path, std::size_t number) {
  const std::size_t colon = line.rfind(':');
  if (colon == std::string_view::npos) return bad_line(path, number, "there is no USER:KEY");
  const std::string_view name = line.substr(0, colon);
  PskKey entry;
  if (name.starts_with('#')) {
    auto decoded = from_hex(name.substr(1));
    if (!decoded) return bad_line(path, number, "the user behind '#' is no hexadecimal");
    entry.user = *std::move(decoded);
  } else {
    entry.user = name;
  }
  if (entry.user.empty()) return bad_line(path, number, "the user is empty");
  if (entry.user.size() > kMaxPskUserBytes) {
    return bad_line(path, number, "the user is longer than 128 bytes");
  }
  auto key = from_hex(line.substr(colon + 1));
  if (!key) return bad_line(path, number, "the key is no hexadecimal");
  if (key->size() < kMinPskBytes) return bad_line(path, number, "the key is shorter than 16 bytes");
  if (key->size() > kMaxPskBytes) return bad_line(path, number, "the key is longer than 512 bytes");
  entry.key = *std::move(key);
  return entry;
}

}  // namespace

Result<std::vector<PskKey>> parse_psk_keys(std::string_view content, const std::string& path) {
  std::vector<PskKey> keys;
  std::size_t number = 0;
  while (!content.empty()) {
    ++number;
    const std::size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    auto entry = parse_line(line, path, number);
    if (!entry) return entry.error();
    const bool known = std::any_of(keys.begin(), keys.end(),
                                   [&](const PskKey& key) { return key.user == entry->user; });
    if (known) return bad_line(path, number, "the user is given twice");
    keys.push_back(*std::move(entry));
  }
  if (keys.empty()) {
    return Error(ErrorCode::kInvalid,
                 path + " holds no key; make one with: psktool -u USER -p FILE");
  }
  return keys;
}

}  // namespace blockmig
