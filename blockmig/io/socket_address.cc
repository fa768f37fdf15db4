// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <string_view>

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

/// A decimal number that fills `text` whole.
bool read_number(std::string_view text, std::uint32_t& into) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), into);
  return !text.empty() && parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

Result<SocketAddress> parse_vsock(const std::string& text) {
  const std::string_view rest = std::string_view(text).substr(6);
  const std::size_t colon = rest.find(':');
  if (colon == std::string_view::npos) {
    return invalid(text, "the port is missing (vsock:CID:PORT)");
  }
  SocketAddress address;
  address.family = SocketAddress::Family::kVsock;
  const std::string_view cid = rest.substr(0, colon);
  if (!cid.empty() && (!read_number(cid, address.cid) || address.cid == SocketAddress::kAnyCid)) {
    return invalid(text,
                   "the context id is a number (1 this machine, 2 the host), or empty for any");
  }
  // The largest number stands for "any" in the kernel.
  if (!read_number(rest.substr(colon + 1), address.vsock_port) ||
      address.vsock_port == 0xffffffff) {
    return invalid(text, "the port is a number from 0 to 4294967294");
  }
  return address;
}

}  // namespace

Result<SocketAddress> SocketAddress::parse(const std::string& text) {
  if (text.starts_with("unix:")) return parse_unix(text);
  if (text.starts_with("tcp:")) return parse_tcp(text);
  if (text.starts_with("vsock:")) return parse_vsock(text);
  return invalid(text, "it starts with unix:, tcp: or vsock:");
}

bool SocketAddress::is_on_a_network() const {
  if (family != Family::kTcp) return false;
  const bool is_number = host.find_first_not_of("0123456789.") == std::string::npos;
  return host != "localhost" && host != "::1" && !(is_number && host.starts_with("127."));
}

std::string SocketAddress::to_string() const {
  if (family == Family::kUnix) return "unix:" + path;
  if (family == Family::kVsock) {
    return "vsock:" + (cid == kAnyCid ? "" : std::to_string(cid)) + ":" +
           std::to_string(vsock_port);
  }
  const bool is_v6 = host.find(':') != std::string::npos;
  return "tcp:" + (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace blockmig
