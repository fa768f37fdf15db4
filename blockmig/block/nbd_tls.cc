// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/nbd_tls.h"

#include <array>
#include <charconv>
#include <string>

namespace blockmig {
namespace {

using Version = std::array<unsigned, 3>;
constexpr Version kVerifiesEverywhere = {1, 20, 3};

/// Zeros for what is not there.
Version parse_version(std::string_view text) {
  Version version{};
  for (unsigned& number : version) {
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failed != std::errc()) break;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.starts_with('.')) break;
    text.remove_prefix(1);
  }
  return version;
}

/// As libnbd reads a truth value.
bool is_false(const std::string& text) {
  return text == "false" || text == "0" || text == "no" || text == "off" || text == "f" ||
         text == "n";
}

}  // namespace

Status check_nbd_tls(const StoreUri& uri, std::string_view libnbd_version) {
  const bool by_tcp = uri.text.starts_with("nbds://");
  if (!uri.tls || by_tcp || uri.query.contains("tls-psk-file")) return {};
  const auto verify = uri.query.find("tls-verify-peer");
  if (verify != uri.query.end() && is_false(verify->second)) return {};
  if (parse_version(libnbd_version) >= kVerifiesEverywhere) return {};
  return Error(ErrorCode::kNotSupported,
               uri.text + ": libnbd " + std::string(libnbd_version) +
                   " verifies a server's certificate over TCP only; use pre-shared keys "
                   "(tls-psk-file=FILE), connect by nbds://HOST, or accept any server with "
                   "tls-verify-peer=false");
}

}  // namespace blockmig
