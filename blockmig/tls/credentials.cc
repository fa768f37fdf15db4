// SPDX-License-Identifier: Apache-2.0
#include "blockmig/tls/credentials.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/tls/certificate.h"
#include "blockmig/tls/credential_file.h"
#include "blockmig/tls/credential_parts.h"
#include "blockmig/tls/tls_session.h"

namespace blockmig {
namespace {

using Made = Result<std::shared_ptr<const TlsCredentials>>;

// TLS 1.2 is the specification's MUST, 1.3 its SHOULD; older versions are off. Only ciphers that
// authenticate their data. The server's order counts, and AES-128 is first: as safe here as the
// longer key, and a third cheaper for bulk data.
constexpr const char* kPriority =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
    ":-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:%SERVER_PRECEDENCE";
constexpr const char* kPskExchanges = ":+ECDHE-PSK:+DHE-PSK:+PSK";

gnutls_datum_t datum_of(const std::string& bytes) {
  // The library does not write through it.
  auto* data = const_cast<char*>(bytes.data());
  return {reinterpret_cast<unsigned char*>(data), static_cast<unsigned>(bytes.size())};
}

std::string in_folder(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

Status load_authority(TlsCredentials::Parts& parts, const std::string& folder) {
  const std::string path = in_folder(folder, "ca-cert.pem");
  const auto pem = read_credential_file(path, "the authority's certificate", Secrecy::kPublic);
  if (!pem) return pem.error();
  const Status dates = check_certificate_dates(*pem, path);
  if (!dates) return dates;
  const gnutls_datum_t text = datum_of(*pem);
  const int count =
      gnutls_certificate_set_x509_trust_mem(parts.certificates, &text, GNUTLS_X509_FMT_PEM);
  if (count < 0) return gnutls_failure(ErrorCode::kInvalid, "cannot use " + path, count);

  const std::string crl_path = in_folder(folder, "ca-crl.pem");
  if (!credential_file_exists(crl_path)) return {};
  const auto crl = read_credential_file(crl_path, "the revocation list", Secrecy::kPublic);
  if (!crl) return crl.error();
  const gnutls_datum_t crl_text = datum_of(*crl);
  const int revocations =
      gnutls_certificate_set_x509_crl_mem(parts.certificates, &crl_text, GNUTLS_X509_FMT_PEM);
  if (revocations <= 0) {
    return gnutls_failure(ErrorCode::kInvalid, crl_path + " holds no revocation list", revocations);
  }
  return {};
}

Status load_own_certificate(TlsCredentials::Parts& parts, const std::string& folder,
                            const char* certificate_name, const char* key_name) {
  const std::string path = in_folder(folder, certificate_name);
  const std::string key_path = in_folder(folder, key_name);
  const auto pem = read_credential_file(path, "the certificate", Secrecy::kPublic);
  if (!pem) return pem.error();
  const Status dates = check_certificate_dates(*pem, path);
  if (!dates) return dates;
  auto key = read_credential_file(key_path, "the private key", Secrecy::kSecret);
  if (!key) return key.error();
  const gnutls_datum_t text = datum_of(*pem);
  const gnutls_datum_t key_text = datum_of(*key);
  const int loaded = gnutls_certificate_set_x509_key_mem2(parts.certificates, &text, &key_text,
                                                          GNUTLS_X509_FMT_PEM, nullptr, 0);
  wipe(*key);
  if (loaded == GNUTLS_E_CERTIFICATE_KEY_MISMATCH) {
    return Error(ErrorCode::kPrecondition, "the private key " + key_path +
                                               " does not belong to the certificate " + path +
                                               "; take the pair that was made together");
  }
  if (loaded < 0) {
    return gnutls_failure(ErrorCode::kInvalid,
                          "cannot use " + key_path + " (a key without a password, in PEM form)",
                          loaded);
  }
  return {};
}

Status load_certificates(TlsCredentials::Parts& parts, const std::string& folder) {
  const int made = gnutls_certificate_allocate_credentials(&parts.certificates);
  if (made != 0) return gnutls_failure(ErrorCode::kNoMemory, folder, made);
  const Status authority = load_authority(parts, folder);
  if (!authority) return authority;
  if (parts.is_server) {
    (void)gnutls_certificate_set_known_dh_params(parts.certificates, GNUTLS_SEC_PARAM_MEDIUM);
    return load_own_certificate(parts, folder, "server-cert.pem", "server-key.pem");
  }
  // A client may do without, where the server does not ask; half a pair is a mistake.
  if (!credential_file_exists(in_folder(folder, "client-cert.pem")) &&
      !credential_file_exists(in_folder(folder, "client-key.pem"))) {
    return {};
  }
  return load_own_certificate(parts, folder, "client-cert.pem", "client-key.pem");
}

Result<std::vector<PskKey>> load_keys(const std::string& path_or_folder) {
  std::error_code failed;
  const bool is_folder = std::filesystem::is_directory(path_or_folder, failed);
  const std::string path = is_folder ? in_folder(path_or_folder, "keys.psk") : path_or_folder;
  auto content = read_credential_file(path, "the file of pre-shared keys", Secrecy::kSecret);
  if (!content) return content.error();
  auto keys = parse_psk_keys(*content, path);
  wipe(*content);
  return keys;
}

/// GnuTLS asks for the key of a user; it owns what it is given.
int find_key(gnutls_session_t session, const gnutls_datum_t* user, gnutls_datum_t* key) {
  const auto& asking = *static_cast<const TlsSession*>(gnutls_session_get_ptr(session));
  const std::string_view name(reinterpret_cast<const char*>(user->data), user->size);
  const auto& keys = asking.credentials().parts().keys;
  const auto found = std::find_if(keys.begin(), keys.end(),
                                  [&](const PskKey& entry) { return entry.user == name; });
  const std::size_t size = found != keys.end() ? found->key.size() : 32;
  key->data = static_cast<unsigned char*>(gnutls_malloc(size));
  if (key->data == nullptr) return GNUTLS_E_MEMORY_ERROR;
  key->size = static_cast<unsigned>(size);
  if (found != keys.end()) {
    std::copy(found->key.begin(), found->key.end(), key->data);
    return 0;
  }
  // An unknown user fails as a wrong key does: a stranger must not learn which users exist.
  return gnutls_rnd(GNUTLS_RND_KEY, key->data, size);
}

Status use_server_keys(TlsCredentials::Parts& parts, std::vector<PskKey> keys) {
  const int made = gnutls_psk_allocate_server_credentials(&parts.psk_server);
  if (made != 0) return gnutls_failure(ErrorCode::kNoMemory, "pre-shared keys", made);
  (void)gnutls_psk_set_server_known_dh_params(parts.psk_server, GNUTLS_SEC_PARAM_MEDIUM);
  gnutls_psk_set_server_credentials_function2(parts.psk_server, find_key);
  parts.keys = std::move(keys);
  return {};
}

Status use_client_key(TlsCredentials::Parts& parts, const PskKey& key) {
  const int made = gnutls_psk_allocate_client_credentials(&parts.psk_client);
  if (made != 0) return gnutls_failure(ErrorCode::kNoMemory, "pre-shared keys", made);
  const gnutls_datum_t user = datum_of(key.user);
  const gnutls_datum_t secret = datum_of(key.key);
  const int set =
      gnutls_psk_set_client_credentials2(parts.psk_client, &user, &secret, GNUTLS_PSK_KEY_RAW);
  if (set != 0) return gnutls_failure(ErrorCode::kInvalid, "pre-shared key", set);
  return {};
}

Result<PskKey> pick_key(std::vector<PskKey> keys, const TlsClientFiles& files) {
  for (PskKey& key : keys) {
    if (key.user == files.psk_user || (files.psk_user.empty() && keys.size() == 1)) {
      return std::move(key);
    }
  }
  if (files.psk_user.empty()) {
    return Error(ErrorCode::kInvalid, files.psk_file + " holds several users; say which one to be");
  }
  return Error(ErrorCode::kNotFound,
               files.psk_file + " holds no key of the user " + files.psk_user);
}

Status set_priority(TlsCredentials::Parts& parts) {
  std::string text = kPriority;
  if (parts.psk_server != nullptr || parts.psk_client != nullptr) text += kPskExchanges;
  const int set = gnutls_priority_init(&parts.priority, text.c_str(), nullptr);
  // The system's policy (its configuration file of GnuTLS) may forbid what we ask for.
  if (set != 0) return gnutls_failure(ErrorCode::kNotSupported, "TLS 1.2 and 1.3", set);
  return {};
}

}  // namespace

Error gnutls_failure(ErrorCode code, const std::string& what, int error) {
  return Error(code, error == 0 ? what : what + ": " + gnutls_strerror(error));
}

TlsCredentials::Parts::~Parts() {
  if (priority != nullptr) gnutls_priority_deinit(priority);
  if (certificates != nullptr) gnutls_certificate_free_credentials(certificates);
  if (psk_server != nullptr) gnutls_psk_free_server_credentials(psk_server);
  if (psk_client != nullptr) gnutls_psk_free_client_credentials(psk_client);
  for (PskKey& key : keys) wipe(key.key);
}

TlsCredentials::TlsCredentials(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
TlsCredentials::~TlsCredentials() = default;

bool TlsCredentials::is_server() const { return parts_->is_server; }
bool TlsCredentials::has_certificates() const { return parts_->certificates != nullptr; }
bool TlsCredentials::has_psk() const {
  return parts_->psk_server != nullptr || parts_->psk_client != nullptr;
}

Made TlsCredentials::for_server(const TlsServerFiles& files) {
  if (files.certificates_folder.empty() && files.psk_file.empty()) {
    return Error(ErrorCode::kInvalid,
                 "TLS needs a folder of certificates, a file of pre-shared keys, or both");
  }
  auto parts = std::make_unique<Parts>();
  parts->is_server = true;
  parts->require_client_certificate = files.require_client_certificate;
  if (!files.certificates_folder.empty()) {
    const Status loaded = load_certificates(*parts, files.certificates_folder);
    if (!loaded) return loaded.error();
  }
  if (!files.psk_file.empty()) {
    auto keys = load_keys(files.psk_file);
    if (!keys) return keys.error();
    const Status used = use_server_keys(*parts, *std::move(keys));
    if (!used) return used.error();
  }
  const Status priority = set_priority(*parts);
  if (!priority) return priority.error();
  return std::shared_ptr<const TlsCredentials>(new TlsCredentials(std::move(parts)));
}

Made TlsCredentials::for_client(const TlsClientFiles& files) {
  if (files.certificates_folder.empty() == files.psk_file.empty()) {
    return Error(ErrorCode::kInvalid,
                 "TLS needs a folder of certificates or a file of pre-shared keys");
  }
  if (!files.psk_file.empty()) {
    auto keys = load_keys(files.psk_file);
    if (!keys) return keys.error();
    auto key = pick_key(*std::move(keys), files);
    if (!key) return key.error();
    return for_client_key(*std::move(key));
  }
  auto parts = std::make_unique<Parts>();
  const Status loaded = load_certificates(*parts, files.certificates_folder);
  if (!loaded) return loaded.error();
  const Status priority = set_priority(*parts);
  if (!priority) return priority.error();
  return std::shared_ptr<const TlsCredentials>(new TlsCredentials(std::move(parts)));
}

Made TlsCredentials::for_server_keys(std::vector<PskKey> keys) {
  auto parts = std::make_unique<Parts>();
  parts->is_server = true;
  const Status used = use_server_keys(*parts, std::move(keys));
  if (!used) return used.error();
  const Status priority = set_priority(*parts);
  if (!priority) return priority.error();
  return std::shared_ptr<const TlsCredentials>(new TlsCredentials(std::move(parts)));
}

Made TlsCredentials::for_client_key(PskKey key) {
  auto parts = std::make_unique<Parts>();
  const Status used = use_client_key(*parts, key);
  wipe(key.key);
  if (!used) return used.error();
  const Status priority = set_priority(*parts);
  if (!priority) return priority.error();
  return std::shared_ptr<const TlsCredentials>(new TlsCredentials(std::move(parts)));
}

}  // namespace blockmig
