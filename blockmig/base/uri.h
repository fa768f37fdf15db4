// SPDX-License-Identifier: Apache-2.0
// Where a disk's content lives, as a user writes it: a path, a file URI, or an NBD URI.
//
// parse_store_uri() is the one place where such text is judged; everything behind it takes a
// StoreUri. The canonical text means the same in every process: relative paths were made absolute
// against the parsing process's working folder, so it may be sent to a daemon or kept in a journal.
// NBD grammar: the NBD project's doc/uri.md, as libnbd reads it. Values; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "blockmig/base/error.h"

namespace blockmig {

inline constexpr std::size_t kMaxUriBytes = 4096;
inline constexpr std::size_t kMaxExportNameBytes = 4096;  ///< the NBD protocol's limit
inline constexpr std::uint16_t kNbdPort = 10809;          ///< where the URI names none

struct StoreUri {
  enum class Kind {
    kFile,  ///< a raw file or a block device of this host
    kNbd,   ///< an export of an NBD server
    kNull,  ///< keeps nothing: for measuring only
  };

  Kind kind = Kind::kFile;
  /// The canonical URI: "file:///srv/a%20disk", "nbd+unix:///exp?socket=/run/x.sock". For kNbd it
  /// is what libnbd takes. Parsing it again gives an equal StoreUri.
  std::string text;
  std::string path;              ///< kFile: absolute, decoded
  std::uint64_t null_bytes = 0;  ///< kNull: its size

  // kNbd only.
  bool tls = false;         ///< nbds, nbds+unix, nbds+vsock
  std::string tls_user;     ///< "USER@": whose pre-shared key; only with TLS
  std::string host;         ///< TCP: name or address, an IPv6 one without brackets; vsock: the CID
  std::uint16_t port = 0;   ///< TCP and vsock
  std::string socket_path;  ///< +unix: absolute, decoded
  std::string export_name;  ///< decoded, without the leading slash; empty is the default export

  /// The query's parameters, decoded ("socket", "tls-psk-file", …). For kFile at most "format" =
  /// "raw".
  std::map<std::string, std::string> query;

  friend bool operator==(const StoreUri&, const StoreUri&) = default;
};

/// Accepts a plain path (relative or absolute), file:///PATH[?format=raw],
/// nbd://HOST[:PORT][/EXPORT], nbd+unix:///[EXPORT]?socket=PATH, nbd+vsock://CID[:PORT][/EXPORT],
/// the same with nbds (where USER@ may stand before the host), and null:SIZE ("null:64GiB").
/// kInvalid: not such a text. kNotSupported: an image format or a scheme that we know and cannot
/// open. Every message names the text.
Result<StoreUri> parse_store_uri(const std::string& text);

/// Decodes %XX. kInvalid: a broken escape, or an encoded NUL.
Result<std::string> percent_decode(const std::string& text);
/// Encodes every byte that is neither unreserved (RFC 3986) nor '/'.
std::string percent_encode_path(const std::string& path);

}  // namespace blockmig
