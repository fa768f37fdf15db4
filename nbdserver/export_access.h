// SPDX-License-Identifier: Apache-2.0
// ExportAccess: who may see which exports, as rules over the identities that a peer has proven.
//
// A rule is one line, "IDENTITY -> EXPORT[, EXPORT…]":
//   cn:backup-*  -> *                 IDENTITY is KIND:PATTERN, the kinds are those of PeerIdentity
//   psk:alice    -> disk0, disk1      ("dn", "cn", "dns", "email", "uri", "ip", "psk", "uid",
//   dn:CN=*,O=Example -> public-*     "gid"), or just "*": everybody, also without any identity.
//   uid:1000     -> disk7
// `*` in a pattern stands for any text; in a dn it stays within one part (it matches none of , +
// \), so that a name that contains a comma cannot pass for two parts. DNS names are compared
// without regard to case, everything else exactly. The last "->" of a line divides it.
//
// Without rules everybody sees everything. With rules what none of them grants is denied, and rules
// only grant: their order does not matter. An immutable value; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/tls/peer_identity.h"

namespace blockmig {

class ExportAccess final {
 public:
  static constexpr std::size_t kMaxRules = 1024;
  static constexpr std::size_t kMaxRuleBytes = 16 * 1024;

  ExportAccess() = default;
  /// kInvalid, with the rule and what is wrong with it.
  static Result<ExportAccess> parse(std::span<const std::string> rules);

  bool has_rules() const { return !rules_.empty(); }
  bool allows(const PeerIdentities& peer, std::string_view export_name) const;

 private:
  struct Rule {
    bool everybody = false;
    PeerIdentity identity;  ///< its name is a pattern
    std::vector<std::string> exports;
  };
  static Result<Rule> parse_rule(const std::string& text);

  std::vector<Rule> rules_;
};

/// True if `text` matches `pattern`, in which `*` stands for any run of characters but `barriers`.
bool matches_pattern(std::string_view pattern, std::string_view text, std::string_view barriers);

}  // namespace blockmig
