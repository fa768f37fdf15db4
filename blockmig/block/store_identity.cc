// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/store_identity.h"

#include <algorithm>
#include <span>

#include "blockmig/base/digest.h"

namespace blockmig {
namespace {

constexpr std::size_t kDigits = 32;

bool is_identity(std::string_view text) {
  return text.size() == kDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool contains(const Identities& all, std::string_view one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

}  // namespace

std::string disk_identity(std::string_view owner, std::string_view disk) {
  std::string named(kIdentityQuery);
  named.append(owner).push_back('\0');
  named.append(disk);
  return digest_of(std::as_bytes(std::span(named.data(), named.size()))).hex();
}

void add_identity(Identities& to, std::string_view identity) {
  if (!is_identity(identity) || contains(to, identity) || to.size() >= kMaxIdentities) return;
  to.emplace_back(identity);
}

void add_identities(Identities& to, const Identities& more) {
  for (const std::string& identity : more) add_identity(to, identity);
}

bool share_identity(const Identities& a, const Identities& b) {
  return std::any_of(a.begin(), a.end(), [&b](const auto& each) { return contains(b, each); });
}

}  // namespace blockmig
