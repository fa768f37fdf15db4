// SPDX-License-Identifier: Apache-2.0
// Certificates for tests, made in a temporary folder: an authority, and folders in the layout of
// the NBD world that it issues. All keys are throw-away.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {

/// A temporary folder whose files have the modes that the tests need.
class ScratchFolder final {
 public:
  const std::string& path() const { return folder_.path(); }
  /// Writes a file with the given mode; returns its path.
  std::string write(const std::string& name, const std::string& content, unsigned mode = 0600);

 private:
  TemporaryFolder folder_;
};

/// What a certificate shall say.
struct CertificateFacts {
  std::string common_name = "localhost";
  std::string organization = {};
  std::vector<std::string> dns_names = {};
  std::vector<std::string> email_names = {};
  std::string address = {};  ///< IPv4, four bytes
  bool for_server = true;
  bool for_client = false;
  long from_seconds = -3600;  ///< from now
  long until_seconds = 3600;
};

class Authority final {
 public:
  explicit Authority(const std::string& name);
  ~Authority();

  /// Makes `folder` with ca-cert.pem and the pair `stem`-cert.pem, `stem`-key.pem.
  void issue(const std::string& folder, const std::string& stem, const CertificateFacts& facts);
  /// Only ca-cert.pem.
  void trust(const std::string& folder);
  /// Revokes what was issued last: ca-crl.pem in `folder`.
  void revoke_last(const std::string& folder);
  const std::string& pem() const { return pem_; }

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
  std::string pem_;
};

}  // namespace blockmig
