// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/host_names.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>

namespace blockmig {
namespace {

/// All of 127/8 and ::1 lead here.
constexpr const char* kLoopback = "loopback";

using Addresses = std::set<std::string>;

void add(const sockaddr* address, Addresses& to) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof v4);
    const bool loopback = ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    to.insert(loopback ? kLoopback : text);
  } else if (address->sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, address, sizeof v6);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    to.insert(IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) ? kLoopback : text);
  }
}

Addresses own_addresses() {
  Addresses own{kLoopback};
  ifaddrs* found = nullptr;
  if (::getifaddrs(&found) != 0) return own;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> list(found, ::freeifaddrs);
  for (const ifaddrs* each = found; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr != nullptr) add(each->ifa_addr, own);
  }
  return own;
}

bool is_wildcard(const std::string& host) {
  return host.empty() || host == "0.0.0.0" || host == "::";
}

/// A wildcard is where the kernel takes a client of it: this machine.
Addresses resolve(const std::string& host) {
  if (is_wildcard(host)) return own_addresses();
  Addresses addresses;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return addresses;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, ::freeaddrinfo);
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    add(each->ai_addr, addresses);
  }
  return addresses;
}

bool intersect(const Addresses& a, const Addresses& b) {
  return std::any_of(a.begin(), a.end(), [&b](const auto& each) { return b.contains(each); });
}

}  // namespace

bool may_be_same_host(const std::string& a, const std::string& b) {
  if (a == b) return true;
  const Addresses first = resolve(a);
  const Addresses second = resolve(b);
  if (intersect(first, second)) return true;
  const Addresses own = own_addresses();
  return intersect(first, own) && intersect(second, own);
}

bool leads_to_listener(const std::string& host, const std::string& listening) {
  return host == listening || intersect(resolve(host), resolve(listening));
}

}  // namespace blockmig
