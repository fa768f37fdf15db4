// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/tls_client.h"

namespace blockmig {
namespace {

void add_parameter(const StoreUri& uri, const char* name, const std::string& value,
                   std::string& text) {
  if (value.empty() || uri.query.contains(name)) return;
  text += text.find('?') == std::string::npos ? '?' : '&';
  text += std::string(name) + "=" + percent_encode_path(value);
}

}  // namespace

Result<StoreUri> with_credentials(const StoreUri& uri, const TlsClient& client) {
  if (uri.kind != StoreUri::Kind::kNbd || !uri.tls) return uri;
  std::string text = uri.text;
  if (!client.user.empty() && uri.tls_user.empty()) {
    text.insert(text.find("://") + 3, percent_encode_path(client.user) + "@");
  }
  add_parameter(uri, "tls-psk-file", client.psk_file, text);
  add_parameter(uri, "tls-certificates", client.certificates, text);
  return parse_store_uri(text);
}

}  // namespace blockmig
