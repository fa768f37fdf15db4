// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/export_access.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace blockmig {
namespace {

using Kind = PeerIdentity::Kind;

constexpr std::array kKinds = {Kind::kCertificateDn, Kind::kCertificateCn, Kind::kDns,
                               Kind::kEmail,         Kind::kUri,           Kind::kIp,
                               Kind::kPskUser,       Kind::kUnixUser,      Kind::kUnixGroup};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<Kind> kind_of(std::string_view name) {
  for (const Kind kind : kKinds) {
    if (to_string(kind) == name) return kind;
  }
  return std::nullopt;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool is_number_pattern(std::string_view text) {
  return text == "*" ||
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Error bad_rule(std::string_view rule, const std::string& why) {
  constexpr std::size_t kShownBytes = 200;
  return Error(ErrorCode::kInvalid, "access rule '" + std::string(rule.substr(0, kShownBytes)) +
                                        "': " + why +
                                        "; write IDENTITY -> EXPORT[, EXPORT...], as in "
                                        "'cn:backup-* -> disk0, disk1' or '* -> public'");
}

bool is_identity(const PeerIdentity& pattern, const PeerIdentity& identity) {
  if (pattern.kind != identity.kind) return false;
  if (pattern.kind == Kind::kDns) return matches_pattern(pattern.name, lower(identity.name), {});
  const bool parts = pattern.kind == Kind::kCertificateDn && pattern.name != "*";
  return matches_pattern(pattern.name, identity.name, parts ? ",+\\" : "");
}

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view text, std::string_view barriers) {
  // reached[i]: the pattern so far matches the first i characters. A hostile name costs no more
  // than their product.
  std::vector<bool> reached(text.size() + 1, false);
  reached[0] = true;
  for (const char c : pattern) {
    if (c == '*') {
      for (std::size_t i = 0; i < text.size(); ++i) {
        const bool passes = barriers.find(text[i]) == std::string_view::npos;
        if (reached[i] && passes) reached[i + 1] = true;
      }
      continue;
    }
    for (std::size_t i = text.size(); i > 0; --i) reached[i] = reached[i - 1] && text[i - 1] == c;
    reached[0] = false;
  }
  return reached[text.size()];
}

Result<ExportAccess::Rule> ExportAccess::parse_rule(const std::string& text) {
  if (text.size() > kMaxRuleBytes) return bad_rule(text, "it is longer than 16 KiB");
  const std::size_t arrow = text.rfind("->");
  if (arrow == std::string::npos) return bad_rule(text, "there is no '->'");
  const std::string_view identity = trimmed(std::string_view(text).substr(0, arrow));
  Rule rule;
  rule.everybody = identity == "*";
  if (!rule.everybody) {
    const std::size_t colon = identity.find(':');
    const auto kind = kind_of(identity.substr(0, std::min(colon, identity.size())));
    if (colon == std::string_view::npos || !kind) {
      return bad_rule(text,
                      "the identity is neither '*' nor dn:, cn:, dns:, email:, uri:, ip:, psk:, "
                      "uid: or gid: with a pattern");
    }
    const std::string_view pattern = identity.substr(colon + 1);
    if (pattern.empty()) return bad_rule(text, "the pattern of the identity is empty");
    const bool is_id = *kind == Kind::kUnixUser || *kind == Kind::kUnixGroup;
    if (is_id && !is_number_pattern(pattern)) {
      return bad_rule(text, "uid: and gid: take a number or '*'");
    }
    rule.identity = {*kind, *kind == Kind::kDns ? lower(pattern) : std::string(pattern)};
  }
  std::string_view rest = std::string_view(text).substr(arrow + 2);
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::string_view name = trimmed(rest.substr(0, comma));
    if (name.empty()) return bad_rule(text, "the name of an export is empty");
    rule.exports.emplace_back(name);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return rule;
}

Result<ExportAccess> ExportAccess::parse(std::span<const std::string> rules) {
  if (rules.size() > kMaxRules) {
    return Error(ErrorCode::kInvalid, "there are more than 1024 access rules");
  }
  ExportAccess access;
  for (const std::string& text : rules) {
    auto rule = parse_rule(text);
    if (!rule) return rule.error();
    access.rules_.push_back(*std::move(rule));
  }
  return access;
}

bool ExportAccess::allows(const PeerIdentities& peer, std::string_view export_name) const {
  if (rules_.empty()) return true;
  for (const Rule& rule : rules_) {
    const bool applies =
        rule.everybody || std::any_of(peer.begin(), peer.end(), [&](const PeerIdentity& identity) {
          return is_identity(rule.identity, identity);
        });
    if (!applies) continue;
    for (const std::string& pattern : rule.exports) {
      if (matches_pattern(pattern, export_name, {})) return true;
    }
  }
  return false;
}

}  // namespace blockmig
