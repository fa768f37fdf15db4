// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/nearest_name.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace blockmig {
namespace {

/// What is longer is no mistyped name, and would cost time.
constexpr std::size_t kMaxNameBytes = 64;

/// Insertions, removals and replacements from one to the other (Levenshtein).
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, diagonal + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest_name(const std::string& wanted, const std::vector<std::string>& names) {
  if (wanted.size() > kMaxNameBytes) return "";
  std::string nearest;
  std::size_t least = 0;
  for (const std::string& name : names) {
    const std::size_t changes = distance(wanted, name);
    if (changes > std::max<std::size_t>(2, name.size() / 3)) continue;
    if (!nearest.empty() && changes >= least) continue;
    nearest = name;
    least = changes;
  }
  return nearest;
}

std::string did_you_mean(const std::string& wanted, const std::vector<std::string>& names) {
  const std::string nearest = nearest_name(wanted, names);
  return nearest.empty() ? "" : " (did you mean '" + nearest + "'?)";
}

}  // namespace blockmig
