// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/uri.h"

#include <array>
#include <charconv>
#include <filesystem>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "blockmig/base/units.h"

namespace blockmig {
namespace {

constexpr std::string_view kAccepted =
    "accepted: a path, file:///PATH, nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, "
    "nbd+vsock://CID[:PORT]/EXPORT (nbds for TLS)";

bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  c = to_lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = to_lower(c);
  return result;
}

/// Text as a message shows it: a control byte in it must not reach a terminal.
std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShownBytes = 200;
  std::string result = "'";
  for (const char c : text.substr(0, kShownBytes)) {
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  if (text.size() > kShownBytes) result += "…";
  return result + "'";
}

Error invalid(std::string_view text, std::string_view why) {
  return Error(ErrorCode::kInvalid, "invalid store " + in_quotes(text) + ": " + std::string(why));
}
Error not_supported(std::string_view text, std::string_view why) {
  return Error(ErrorCode::kNotSupported,
               "unsupported store " + in_quotes(text) + ": " + std::string(why));
}

/// The parts of scheme:[//authority]path[?query], still encoded.
struct Parts {
  std::string scheme;
  std::string authority;
  std::string path;
  std::string query;
};

/// The scheme's length if the text is a URI and not a path: "SCHEME://", or a scheme that people
/// write without the slashes. A file whose name looks like that is reached as "./NAME".
std::optional<std::size_t> scheme_length(const std::string& text) {
  if (text.empty() || !is_alpha(text[0])) return std::nullopt;
  std::size_t end = 1;
  while (end < text.size() && (is_alpha(text[end]) || is_digit(text[end]) || text[end] == '+' ||
                               text[end] == '-' || text[end] == '.')) {
    ++end;
  }
  if (end >= text.size() || text[end] != ':') return std::nullopt;
  if (text.compare(end, 3, "://") == 0) return end;
  constexpr std::array<std::string_view, 5> kSlashless = {"file", "nbd", "null", "rbd", "json"};
  const std::string scheme = lower(text.substr(0, end));
  for (const std::string_view known : kSlashless) {
    if (scheme == known) return end;
  }
  return std::nullopt;
}

Parts split(const std::string& text, std::size_t scheme_bytes) {
  Parts parts;
  parts.scheme = lower(text.substr(0, scheme_bytes));
  std::string rest = text.substr(scheme_bytes + 1);
  if (const auto question = rest.find('?'); question != std::string::npos) {
    parts.query = rest.substr(question + 1);
    rest.resize(question);
  }
  if (rest.compare(0, 2, "//") == 0) {
    const auto slash = rest.find('/', 2);
    parts.authority = rest.substr(2, slash == std::string::npos ? slash : slash - 2);
    parts.path = slash == std::string::npos ? "" : rest.substr(slash);
  } else {
    parts.path = rest;
  }
  return parts;
}

Result<std::map<std::string, std::string>> parse_query(const std::string& text,
                                                       const std::string& query) {
  std::map<std::string, std::string> parameters;
  std::size_t from = 0;
  while (from < query.size()) {
    std::size_t end = query.find('&', from);
    if (end == std::string::npos) end = query.size();
    const std::string item = query.substr(from, end - from);
    from = end + 1;
    if (item.empty()) continue;
    const auto equals = item.find('=');
    if (equals == std::string::npos || equals == 0) {
      return invalid(text, "query parameter '" + item + "' is not NAME=VALUE");
    }
    const auto name = percent_decode(item.substr(0, equals));
    const auto value = percent_decode(item.substr(equals + 1));
    if (!name || !value) {
      return invalid(text, "broken percent escape in query parameter '" + item + "'");
    }
    if (!parameters.emplace(*name, *value).second) {
      return invalid(text, "query parameter '" + *name + "' is given twice");
    }
  }
  return parameters;
}

Result<std::string> absolute_path(const std::string& text, const std::string& path) {
  if (path.empty()) return invalid(text, "the path is empty");
  std::error_code failed;
  // Not normalised: "a/../b" differs from "b" where a is a symbolic link.
  const std::filesystem::path absolute = std::filesystem::absolute(path, failed);
  if (failed)
    return Error::from_errno(failed.value(), "cannot make " + in_quotes(path) + " absolute");
  return absolute.string();
}

Result<StoreUri> file_store(const std::string& text, const std::string& path) {
  auto absolute = absolute_path(text, path);
  if (!absolute) return absolute.error();
  StoreUri uri;
  uri.kind = StoreUri::Kind::kFile;
  uri.path = *std::move(absolute);
  uri.text = "file://" + percent_encode_path(uri.path);
  return uri;
}

Status check_format(const std::string& text, const std::string& format) {
  if (format == "raw") return {};
  constexpr std::array<std::string_view, 10> kImageFormats = {
      "qcow2", "qcow", "qed", "vmdk", "vhdx", "vpc", "vhd", "vdi", "luks", "parallels"};
  for (const std::string_view known : kImageFormats) {
    if (format != known) continue;
    return not_supported(text, "format " + format +
                                   " is not read here; convert it (qemu-img convert -O raw), or "
                                   "serve it (qemu-nbd -t -f " +
                                   format +
                                   " -k SOCKET IMAGE) and give nbd+unix:///?socket=SOCKET");
  }
  return invalid(text, "unknown format '" + format + "'; only raw files are opened directly");
}

Result<StoreUri> parse_file(const std::string& text, const Parts& parts) {
  if (!parts.authority.empty() && lower(parts.authority) != "localhost") {
    return invalid(text, "a file URI has no host; write file:///PATH (three slashes)");
  }
  if (parts.path.empty() || parts.path[0] != '/') {
    return invalid(text, "a file URI needs an absolute path: file:///PATH");
  }
  if (parts.path.find('#') != std::string::npos) {
    return invalid(text, "'#' in a file URI is written %23");
  }
  const auto path = percent_decode(parts.path);
  if (!path) return invalid(text, path.error().message());
  const auto query = parse_query(text, parts.query);
  if (!query) return query.error();
  for (const auto& [name, value] : *query) {
    if (name != "format") {
      return invalid(text, "unknown parameter '" + name + "'; a file URI takes format=raw");
    }
    const Status format = check_format(text, value);
    if (!format) return format.error();
  }
  auto uri = file_store(text, *path);
  if (!uri) return uri;
  uri->query = *query;
  if (!query->empty()) uri->text += "?format=raw";
  return uri;
}

/// Takes "USER@" off the front of an authority: TLS with pre-shared keys needs it, nothing else has
/// a use for it.
Result<std::string> take_user(const std::string& text, const std::string& authority,
                              StoreUri& uri) {
  const auto at = authority.rfind('@');
  if (at == std::string::npos) return authority;
  if (!uri.tls) return invalid(text, "an NBD URI without TLS has no user name");
  auto user = percent_decode(authority.substr(0, at));
  if (!user) return invalid(text, user.error().message());
  if (user->empty()) return invalid(text, "the user name before '@' is empty");
  uri.tls_user = *std::move(user);
  return authority.substr(at + 1);
}

/// host[:port], [IPv6][:port] or vsock's CID[:port], into `uri`.
Status parse_authority(const std::string& text, const std::string& authority, StoreUri& uri) {
  std::string_view rest = authority;
  std::string host;
  if (!rest.empty() && rest[0] == '[') {
    const auto close = rest.find(']');
    if (close == std::string_view::npos) return invalid(text, "'[' of the address is not closed");
    host = rest.substr(1, close - 1);
    rest.remove_prefix(close + 1);
  } else {
    const auto colon = rest.find(':');
    host = rest.substr(0, colon);
    rest.remove_prefix(host.size());
  }
  auto decoded = percent_decode(host);
  if (!decoded) return invalid(text, decoded.error().message());
  uri.host = *std::move(decoded);
  uri.port = kNbdPort;
  if (rest.empty()) return {};
  if (rest[0] != ':') return invalid(text, "after the address comes ':PORT'");
  rest.remove_prefix(1);
  if (rest.empty()) return {};  // "host:" is the default port (RFC 3986, 3.2.3)
  const auto [end, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), uri.port);
  if (failed != std::errc() || end != rest.data() + rest.size() || uri.port == 0) {
    return invalid(text, "port '" + std::string(rest) + "' is not in 1 … 65535");
  }
  return {};
}

Status parse_unix(const std::string& text, const Parts& parts, const std::string& authority,
                  StoreUri& uri) {
  if (!authority.empty()) {
    return invalid(text, "a unix socket has no host; write " + parts.scheme +
                             ":///EXPORT?socket=PATH (three slashes)");
  }
  const auto socket = uri.query.find("socket");
  if (socket == uri.query.end() || socket->second.empty()) {
    return invalid(text, "the socket is missing; write " + parts.scheme + ":///EXPORT?socket=PATH");
  }
  auto absolute = absolute_path(text, socket->second);
  if (!absolute) return absolute.error();
  uri.socket_path = *absolute;
  socket->second = *std::move(absolute);
  return {};
}

std::string canonical_nbd(const Parts& parts, const StoreUri& uri) {
  std::string text =
      parts.scheme + "://" + parts.authority + "/" + percent_encode_path(uri.export_name);
  char separator = '?';
  for (const auto& [name, value] : uri.query) {
    text += separator + percent_encode_path(name) + "=" + percent_encode_path(value);
    separator = '&';
  }
  return text;
}

Result<StoreUri> parse_nbd(const std::string& text, const Parts& parts) {
  for (const char c : text) {
    // libnbd's parser refuses these with a message that names nothing.
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || c == '#') {
      return invalid(text, "spaces, control characters and '#' are percent-encoded in an NBD URI");
    }
  }
  if (!parts.path.empty() && parts.path[0] != '/') {
    return invalid(text, "this is not an NBD URI; write nbd://HOST[:PORT]/EXPORT");
  }
  StoreUri uri;
  uri.kind = StoreUri::Kind::kNbd;
  uri.tls = parts.scheme.compare(0, 4, "nbds") == 0;
  auto query = parse_query(text, parts.query);
  if (!query) return query.error();
  uri.query = *std::move(query);
  if (!parts.path.empty()) {
    auto name = percent_decode(parts.path.substr(1));
    if (!name) return invalid(text, name.error().message());
    uri.export_name = *std::move(name);
  }
  if (uri.export_name.size() > kMaxExportNameBytes)
    return invalid(text, "the export name is too long");
  const auto authority = take_user(text, parts.authority, uri);
  if (!authority) return authority.error();
  if (parts.scheme.ends_with("+unix")) {
    const Status unix_parts = parse_unix(text, parts, *authority, uri);
    if (!unix_parts) return unix_parts.error();
  } else {
    if (uri.query.contains("socket")) {
      return invalid(text, "socket= belongs to nbd+unix://, not to " + parts.scheme + "://");
    }
    const Status host = parse_authority(text, *authority, uri);
    if (!host) return host.error();
    if (uri.host.empty()) return invalid(text, "the host is missing");
  }
  uri.text = canonical_nbd(parts, uri);
  return uri;
}

Result<StoreUri> parse_null(const std::string& text, std::size_t scheme_bytes) {
  const Result<std::uint64_t> size = parse_size(text.substr(scheme_bytes + 1));
  if (!size || *size == 0) {
    return invalid(text, "a store that keeps nothing is written null:SIZE, as null:64GiB");
  }
  if (*size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return invalid(text, "a disk is smaller than 8EiB");
  }
  StoreUri uri;
  uri.kind = StoreUri::Kind::kNull;
  uri.null_bytes = *size;
  uri.text = "null:" + std::to_string(*size);
  return uri;
}

Result<StoreUri> parse_uri(const std::string& text, std::size_t scheme_bytes) {
  const Parts parts = split(text, scheme_bytes);
  const std::string& scheme = parts.scheme;
  if (scheme == "file") return parse_file(text, parts);
  if (scheme == "null") return parse_null(text, scheme_bytes);
  if (scheme == "nbd" || scheme == "nbds" || scheme == "nbd+unix" || scheme == "nbds+unix" ||
      scheme == "nbd+vsock" || scheme == "nbds+vsock") {
    return parse_nbd(text, parts);
  }
  if (scheme == "blockmig") {
    return not_supported(text,
                         "moving to another daemon is not built yet; " + std::string(kAccepted));
  }
  if (scheme == "rbd" || scheme == "json") {
    return not_supported(text,
                         "serve it (qemu-nbd -t -f raw -k SOCKET IMAGE) and give "
                         "nbd+unix:///?socket=SOCKET; " +
                             std::string(kAccepted));
  }
  return invalid(text, "unknown scheme '" + scheme + "'; " + std::string(kAccepted));
}

}  // namespace

Result<std::string> percent_decode(const std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0) return Error(ErrorCode::kInvalid, "broken percent escape");
    const int byte = high * 16 + low;
    if (byte == 0) return Error(ErrorCode::kInvalid, "%00 is not allowed");
    result += static_cast<char>(byte);
    i += 2;
  }
  return result;
}

std::string percent_encode_path(const std::string& path) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string result;
  for (const char c : path) {
    if (is_alpha(c) || is_digit(c) || c == '/' || c == '-' || c == '.' || c == '_' || c == '~') {
      result += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      result += '%';
      result += kHex[byte >> 4];
      result += kHex[byte & 15];
    }
  }
  return result;
}

Result<StoreUri> parse_store_uri(const std::string& text) {
  if (text.empty()) return invalid(text, std::string("it is empty; ") + std::string(kAccepted));
  if (text.size() > kMaxUriBytes) return invalid(text, "it is longer than 4096 bytes");
  if (text.find('\0') != std::string::npos) return invalid(text, "it holds a NUL byte");
  if (const auto scheme = scheme_length(text)) return parse_uri(text, *scheme);
  return file_store(text, text);
}

}  // namespace blockmig
