// SPDX-License-Identifier: Apache-2.0
#include "blockmig/tls/certificate.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <memory>
#include <optional>

#include "blockmig/tls/credential_parts.h"

namespace blockmig {
namespace {

struct FreeCertificate {
  void operator()(gnutls_x509_crt_int* certificate) const { gnutls_x509_crt_deinit(certificate); }
};
using Certificate = std::unique_ptr<gnutls_x509_crt_int, FreeCertificate>;

Certificate new_certificate() {
  gnutls_x509_crt_t raw = nullptr;
  if (gnutls_x509_crt_init(&raw) != 0) return nullptr;
  return Certificate(raw);
}

std::string date_text(std::time_t time) {
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &parts);
  return std::string(text.data(), size);
}

void add(PeerIdentities& to, PeerIdentity::Kind kind, std::string name) {
  const bool is_text = std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (!name.empty() && is_text) to.push_back({kind, std::move(name)});
}

std::optional<std::string> common_name(gnutls_x509_crt_t certificate, unsigned index) {
  std::array<char, 1024> text{};
  std::size_t size = text.size();
  if (gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, index, 0, text.data(),
                                    &size) != 0) {
    return std::nullopt;
  }
  return std::string(text.data(), size);
}

std::string address_text(std::string_view bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = bytes.size() == 4 ? AF_INET : AF_INET6;
  if (bytes.size() != 4 && bytes.size() != 16) return {};
  if (::inet_ntop(family, bytes.data(), text.data(), text.size()) == nullptr) return {};
  return text.data();
}

void add_alternative_names(PeerIdentities& to, gnutls_x509_crt_t certificate) {
  constexpr unsigned kMaxNames = 64;
  for (unsigned i = 0; i < kMaxNames; ++i) {
    std::array<char, 1024> buffer{};
    std::size_t size = buffer.size();
    const int type =
        gnutls_x509_crt_get_subject_alt_name(certificate, i, buffer.data(), &size, nullptr);
    if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) return;
    if (type < 0) continue;  // too long, or of a kind that cannot be read
    const std::string name(buffer.data(), std::min(size, buffer.size()));
    if (type == GNUTLS_SAN_DNSNAME) add(to, PeerIdentity::Kind::kDns, name);
    if (type == GNUTLS_SAN_RFC822NAME) add(to, PeerIdentity::Kind::kEmail, name);
    if (type == GNUTLS_SAN_URI) add(to, PeerIdentity::Kind::kUri, name);
    if (type == GNUTLS_SAN_IPADDRESS) add(to, PeerIdentity::Kind::kIp, address_text(name));
  }
}

gnutls_datum_t datum_of(const std::string& bytes) {
  // The library does not write through it.
  auto* data = const_cast<char*>(bytes.data());
  return {reinterpret_cast<unsigned char*>(data), static_cast<unsigned>(bytes.size())};
}

}  // namespace

Status check_certificate_dates(const std::string& pem, const std::string& path) {
  const gnutls_datum_t text = datum_of(pem);
  const Certificate certificate = new_certificate();
  if (!certificate) return Error(ErrorCode::kNoMemory, path);
  const int imported = gnutls_x509_crt_import(certificate.get(), &text, GNUTLS_X509_FMT_PEM);
  if (imported != 0) {
    return gnutls_failure(ErrorCode::kInvalid, path + " holds no certificate in PEM form",
                          imported);
  }
  const std::time_t now = std::time(nullptr);
  const std::time_t from = gnutls_x509_crt_get_activation_time(certificate.get());
  const std::time_t until = gnutls_x509_crt_get_expiration_time(certificate.get());
  if (now > until) {
    return Error(ErrorCode::kPrecondition, "the certificate " + path + " expired on " +
                                               date_text(until) + "; have it issued anew");
  }
  if (now < from) {
    return Error(ErrorCode::kPrecondition, "the certificate " + path + " is not valid before " +
                                               date_text(from) + "; check this machine's clock");
  }
  return {};
}

PeerIdentities identities_of_certificate(const gnutls_datum_t& der) {
  PeerIdentities identities;
  const Certificate certificate = new_certificate();
  if (!certificate || gnutls_x509_crt_import(certificate.get(), &der, GNUTLS_X509_FMT_DER) != 0) {
    return identities;
  }
  gnutls_datum_t dn{};
  if (gnutls_x509_crt_get_dn3(certificate.get(), &dn, 0) == 0) {
    const std::string text(reinterpret_cast<const char*>(dn.data), dn.size);
    gnutls_free(dn.data);
    add(identities, PeerIdentity::Kind::kCertificateDn, text);
  }
  auto name = common_name(certificate.get(), 0);
  // Two common names: which of them was meant to identify is not known. '#': the library shows what
  // is no text as hexadecimal.
  if (name && !name->starts_with('#') && !common_name(certificate.get(), 1)) {
    add(identities, PeerIdentity::Kind::kCertificateCn, *std::move(name));
  }
  add_alternative_names(identities, certificate.get());
  return identities;
}

}  // namespace blockmig
