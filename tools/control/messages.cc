// SPDX-License-Identifier: Apache-2.0
#include "tools/control/messages.h"

#include <string_view>

#include "blockmig/base/uri.h"

namespace blockmig {
namespace {

bool allowed(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("._-+:@").find(c) != std::string_view::npos;
}

}  // namespace

Status check_name(const char* what, const std::string& name) {
  const std::string prefix = std::string("invalid ") + what + " name";
  if (name.empty()) return Error(ErrorCode::kInvalid, prefix + ": it is empty");
  if (name.size() > kMaxDiskNameBytes) {
    return Error(ErrorCode::kInvalid,
                 prefix + ": longer than " + std::to_string(kMaxDiskNameBytes) + " bytes");
  }
  bool legal = name[0] != '.' && name[0] != '-';
  std::string shown;
  for (const char c : name) {
    legal = legal && allowed(c);
    shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  if (legal) return {};
  return Error(ErrorCode::kInvalid, prefix + " '" + shown +
                                        "': use letters, digits and . _ - + : @, beginning with "
                                        "neither . nor -");
}

Status check_not_a_job(const std::string& disk) {
  constexpr std::string_view kPrefix = "job-";
  const std::string_view name = disk;
  const bool is_job = name.starts_with(kPrefix) && name.size() > kPrefix.size() &&
                      name.find_first_not_of("0123456789", kPrefix.size()) == name.npos;
  if (!is_job) return {};
  return Error(ErrorCode::kInvalid,
               "invalid disk name '" + disk + "': jobs are named like that; give it another");
}

Status check_backup(const MigrateRequest& request) {
  const std::string& since = request.options.since_bitmap;
  if (!request.backup && (!since.empty() || request.bitmap)) {
    return Error(ErrorCode::kInvalid, "'since' and 'bitmap' are for backups");
  }
  if (request.backup && !request.options.point_in_time) {
    return Error(ErrorCode::kInvalid, "a backup is the copy of a point in time");
  }
  if (!since.empty()) {
    const Status name = check_name("bitmap", since);
    if (!name) return name;
  }
  if (request.bitmap && request.bitmap->name == since) {
    return Error(ErrorCode::kInvalid,
                 "bitmap '" + since +
                     "' cannot begin with a copy that is made since its "
                     "beginning: it is needed until the copy is whole; name another one");
  }
  if (request.bitmap && !request.bitmap->recording) {
    return Error(ErrorCode::kInvalid, "the bitmap of a backup records from its instant on");
  }
  return {};
}

std::string export_uri(const std::string& address, const std::string& disk, bool tls_required) {
  constexpr std::string_view kUnix = "unix:";
  constexpr std::string_view kTcp = "tcp:";
  constexpr std::string_view kVsock = "vsock:";
  const std::string scheme = tls_required ? "nbds" : "nbd";
  const std::string name = percent_encode_path(disk);
  if (address.starts_with(kUnix)) {
    return scheme + "+unix:///" + name +
           "?socket=" + percent_encode_path(address.substr(kUnix.size()));
  }
  if (address.starts_with(kVsock)) {
    const std::string place = address.substr(kVsock.size());
    // Any context id: this machine's own is the one that is the same for whoever is on it.
    return scheme + "+vsock://" + (place.starts_with(":") ? "1" + place : place) + "/" + name;
  }
  std::string authority = address.starts_with(kTcp) ? address.substr(kTcp.size()) : address;
  for (const std::string_view wildcard : {"0.0.0.0:", "[::]:", "*:", ":"}) {
    if (!authority.starts_with(wildcard)) continue;
    authority = "localhost:" + authority.substr(wildcard.size());
    break;
  }
  return scheme + "://" + authority + "/" + name;
}

}  // namespace blockmig
