// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/user_names.h"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <vector>

namespace blockmig {
namespace {

/// The largest number means "nobody in particular" to the kernel.
constexpr std::uint32_t kNobody = 0xffffffff;
constexpr std::size_t kFirstBufferBytes = 4096;
constexpr std::size_t kMaxBufferBytes = 1024 * 1024;

std::optional<std::uint32_t> to_number(const std::string& text) {
  std::uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end || number == kNobody) return std::nullopt;
  return number;
}

/// Calls `find(buffer, size)` with more room until it has enough; what it says otherwise.
template <typename Find>
int with_room(Find find) {
  std::vector<char> buffer(kFirstBufferBytes);
  for (;;) {
    const int failed = find(buffer.data(), buffer.size());
    if (failed != ERANGE || buffer.size() >= kMaxBufferBytes) return failed;
    buffer.resize(buffer.size() * 4);
  }
}

Error nobody(const char* what, const std::string& text) {
  return Error(ErrorCode::kInvalid, "there is no " + std::string(what) + " '" + text + "'");
}

}  // namespace

Result<std::uint32_t> user_number(const std::string& text) {
  if (const auto number = to_number(text)) return *number;
  passwd entry{};
  passwd* found = nullptr;
  const int failed = with_room([&](char* buffer, std::size_t size) {
    return ::getpwnam_r(text.c_str(), &entry, buffer, size, &found);
  });
  if (failed != 0 || found == nullptr) return nobody("user", text);
  return static_cast<std::uint32_t>(entry.pw_uid);
}

Result<std::uint32_t> group_number(const std::string& text) {
  if (const auto number = to_number(text)) return *number;
  group entry{};
  group* found = nullptr;
  const int failed = with_room([&](char* buffer, std::size_t size) {
    return ::getgrnam_r(text.c_str(), &entry, buffer, size, &found);
  });
  if (failed != 0 || found == nullptr) return nobody("group", text);
  return static_cast<std::uint32_t>(entry.gr_gid);
}

}  // namespace blockmig
