// SPDX-License-Identifier: Apache-2.0
#include "made_certificates.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace blockmig {
namespace {

void must(int error, const char* what) {
  if (error >= 0) return;
  std::fprintf(stderr, "%s: %s\n", what, gnutls_strerror(error));
  std::abort();
}

void write_file(const std::string& path, const std::string& content, unsigned mode) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  if (::chmod(path.c_str(), mode) != 0) std::abort();
}

std::string take(gnutls_datum_t datum) {
  std::string text(reinterpret_cast<const char*>(datum.data), datum.size);
  gnutls_free(datum.data);
  return text;
}

gnutls_x509_privkey_t new_key() {
  gnutls_x509_privkey_t key = nullptr;
  must(gnutls_x509_privkey_init(&key), "key");
  must(gnutls_x509_privkey_generate(key, GNUTLS_PK_EC,
                                    GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
       "generate");
  return key;
}

void set_name(gnutls_x509_crt_t certificate, const char* oid, const std::string& name) {
  if (name.empty()) return;
  must(gnutls_x509_crt_set_dn_by_oid(certificate, oid, 0, name.data(),
                                     static_cast<unsigned>(name.size())),
       "name");
}

gnutls_x509_crt_t new_certificate(gnutls_x509_privkey_t key, const std::string& name,
                                  unsigned serial, long from_seconds, long until_seconds) {
  gnutls_x509_crt_t certificate = nullptr;
  must(gnutls_x509_crt_init(&certificate), "certificate");
  must(gnutls_x509_crt_set_version(certificate, 3), "version");
  const unsigned char number[4] = {1, 0, static_cast<unsigned char>(serial >> 8),
                                   static_cast<unsigned char>(serial)};
  must(gnutls_x509_crt_set_serial(certificate, number, sizeof number), "serial");
  const std::time_t now = std::time(nullptr);
  must(gnutls_x509_crt_set_activation_time(certificate, now + from_seconds), "from");
  must(gnutls_x509_crt_set_expiration_time(certificate, now + until_seconds), "until");
  must(gnutls_x509_crt_set_key(certificate, key), "key");
  set_name(certificate, GNUTLS_OID_X520_COMMON_NAME, name);
  return certificate;
}

}  // namespace

std::string ScratchFolder::write(const std::string& name, const std::string& content,
                                 unsigned mode) {
  const std::string path = folder_ / name;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  write_file(path, content, mode);
  return path;
}

struct Authority::Parts {
  gnutls_x509_privkey_t key = nullptr;
  gnutls_x509_crt_t certificate = nullptr;
  gnutls_x509_crt_t last = nullptr;
  unsigned serial = 1;
};

Authority::Authority(const std::string& name) : parts_(std::make_unique<Parts>()) {
  parts_->key = new_key();
  parts_->certificate = new_certificate(parts_->key, name, parts_->serial++, -7200, 7200);
  must(gnutls_x509_crt_set_basic_constraints(parts_->certificate, 1, -1), "constraints");
  must(gnutls_x509_crt_set_key_usage(parts_->certificate,
                                     GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN),
       "usage");
  must(gnutls_x509_crt_sign2(parts_->certificate, parts_->certificate, parts_->key,
                             GNUTLS_DIG_SHA256, 0),
       "sign");
  gnutls_datum_t pem{};
  must(gnutls_x509_crt_export2(parts_->certificate, GNUTLS_X509_FMT_PEM, &pem), "export");
  pem_ = take(pem);
}

Authority::~Authority() {
  if (parts_->last != nullptr) gnutls_x509_crt_deinit(parts_->last);
  gnutls_x509_crt_deinit(parts_->certificate);
  gnutls_x509_privkey_deinit(parts_->key);
}

void Authority::trust(const std::string& folder) {
  std::filesystem::create_directories(folder);
  write_file(folder + "/ca-cert.pem", pem_, 0644);
}

void Authority::issue(const std::string& folder, const std::string& stem,
                      const CertificateFacts& facts) {
  trust(folder);
  const gnutls_x509_privkey_t key = new_key();
  const gnutls_x509_crt_t certificate = new_certificate(key, facts.common_name, parts_->serial++,
                                                        facts.from_seconds, facts.until_seconds);
  set_name(certificate, GNUTLS_OID_X520_ORGANIZATION_NAME, facts.organization);
  for (const std::string& name : facts.dns_names) {
    must(gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, name.data(),
                                              static_cast<unsigned>(name.size()),
                                              GNUTLS_FSAN_APPEND),
         "dns");
  }
  for (const std::string& name : facts.email_names) {
    must(gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_RFC822NAME, name.data(),
                                              static_cast<unsigned>(name.size()),
                                              GNUTLS_FSAN_APPEND),
         "email");
  }
  if (!facts.address.empty()) {
    must(gnutls_x509_crt_set_subject_alt_name(
             certificate, GNUTLS_SAN_IPADDRESS, facts.address.data(),
             static_cast<unsigned>(facts.address.size()), GNUTLS_FSAN_APPEND),
         "address");
  }
  must(gnutls_x509_crt_set_key_usage(certificate, GNUTLS_KEY_DIGITAL_SIGNATURE), "usage");
  if (facts.for_server) {
    must(gnutls_x509_crt_set_key_purpose_oid(certificate, GNUTLS_KP_TLS_WWW_SERVER, 0), "purpose");
  }
  if (facts.for_client) {
    must(gnutls_x509_crt_set_key_purpose_oid(certificate, GNUTLS_KP_TLS_WWW_CLIENT, 0), "purpose");
  }
  must(gnutls_x509_crt_sign2(certificate, parts_->certificate, parts_->key, GNUTLS_DIG_SHA256, 0),
       "sign");
  gnutls_datum_t pem{};
  must(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem), "export");
  write_file(folder + "/" + stem + "-cert.pem", take(pem), 0644);
  must(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), "export");
  write_file(folder + "/" + stem + "-key.pem", take(pem), 0600);
  gnutls_x509_privkey_deinit(key);
  if (parts_->last != nullptr) gnutls_x509_crt_deinit(parts_->last);
  parts_->last = certificate;
}

void Authority::revoke_last(const std::string& folder) {
  gnutls_x509_crl_t list = nullptr;
  must(gnutls_x509_crl_init(&list), "crl");
  must(gnutls_x509_crl_set_version(list, 2), "version");
  const std::time_t now = std::time(nullptr);
  must(gnutls_x509_crl_set_this_update(list, now - 60), "this update");
  must(gnutls_x509_crl_set_next_update(list, now + 3600), "next update");
  must(gnutls_x509_crl_set_crt(list, parts_->last, now - 30), "revoke");
  const unsigned char number[] = {1};
  must(gnutls_x509_crl_set_number(list, number, sizeof number), "number");
  must(gnutls_x509_crl_sign2(list, parts_->certificate, parts_->key, GNUTLS_DIG_SHA256, 0), "sign");
  gnutls_datum_t pem{};
  must(gnutls_x509_crl_export2(list, GNUTLS_X509_FMT_PEM, &pem), "export");
  write_file(folder + "/ca-crl.pem", take(pem), 0644);
  gnutls_x509_crl_deinit(list);
}

}  // namespace blockmig
