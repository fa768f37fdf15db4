// SPDX-License-Identifier: Apache-2.0
#include <charconv>

#include "blockmig/io/raw_address.h"
#include "blockmig/io/stream.h"

namespace blockmig {
namespace {

Error invalid(const std::string& text, const char* why) {
  return Error(ErrorCode::kInvalid, "\"" + text + "\" is not an address: " + why);
}

Result<SocketAddress> parse_unix(const std::string& text) {
  SocketAddress address;
  address.family = SocketAddress::Family::kUnix;
  address.path = text.substr(5);
  const auto raw = raw_unix_address(address.path);
  if (!raw) return raw.error();
  return address;
}

Result<SocketAddress> parse_tcp(const std::string& text) {
  const std::string rest = text.substr(4);
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string::npos) return invalid(text, "the port is missing (tcp:HOST:PORT)");
  std::string host = rest.substr(0, colon);
  if (!host.empty() && host.front() == '[') {
    if (host.size() < 3 || host.back() != ']') return invalid(text, "\"[\" without \"]\"");
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return invalid(text, "IPv6 addresses are written in brackets (tcp:[::1]:10809)");
  }
  const char* first = rest.data() + colon + 1;
  const char* last = rest.data() + rest.size();
  SocketAddress address;
  const auto parsed = std::from_chars(first, last, address.port);
  if (first == last || parsed.ec != std::errc() || parsed.ptr != last) {
    return invalid(text, "the port is a number from 0 to 65535");
  }
  address.family = SocketAddress::Family::kTcp;
  address.host = std::move(host);
  return address;
}

}  // namespace

Result<SocketAddress> SocketAddress::parse(const std::string& text) {
  if (text.starts_with("unix:")) return parse_unix(text);
  if (text.starts_with("tcp:")) return parse_tcp(text);
  return invalid(text, "it starts with unix: or tcp:");
}

std::string SocketAddress::to_string() const {
  if (family == Family::kUnix) return "unix:" + path;
  const bool is_v6 = host.find(':') != std::string::npos;
  return "tcp:" + (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace blockmig
