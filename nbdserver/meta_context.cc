// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/meta_context.h"

#include <algorithm>

#include "nbdserver/byte_reader.h"
#include "nbdserver/reply_codec.h"
#include "nbdserver/wire.h"

namespace blockmig::nbd {
namespace {

constexpr std::string_view kAllocationName = "base:allocation";
constexpr std::string_view kDepthName = "qemu:allocation-depth";
constexpr std::string_view kHydrationName = "blockmig:hydration";
constexpr std::string_view kDirtyBitmapPrefix = "qemu:dirty-bitmap:";

bool matches(const MetaContext& context, std::string_view query, MetaMatch how) {
  if (query == context.name) return true;
  if (how == MetaMatch::kSet) return false;
  switch (context.kind) {
    case MetaContext::Kind::kAllocation:
      return query == "base:";
    case MetaContext::Kind::kDirtyBitmap:
      return query == "qemu:" || query == kDirtyBitmapPrefix;
    case MetaContext::Kind::kAllocationDepth:
      return query == "qemu:";
    case MetaContext::Kind::kHydration:
      return query == "blockmig:";
  }
  return false;
}

}  // namespace

std::vector<MetaContext> available_contexts(const Export& disk) {
  std::vector<MetaContext> contexts;
  const auto add = [&](MetaContext::Kind kind, std::string name, std::string bitmap) {
    const auto id = static_cast<std::uint32_t>(contexts.size() + 1);
    contexts.push_back({id, kind, std::move(name), std::move(bitmap)});
  };
  add(MetaContext::Kind::kAllocation, std::string(kAllocationName), {});
  for (const std::string& bitmap : disk.bitmap_names()) {
    std::string name = std::string(kDirtyBitmapPrefix) + bitmap;
    // A bitmap without a name would be taken for the wildcard.
    if (bitmap.empty() || name.size() > kMaxStringBytes || !is_wire_string(name)) continue;
    add(MetaContext::Kind::kDirtyBitmap, std::move(name), bitmap);
  }
  add(MetaContext::Kind::kAllocationDepth, std::string(kDepthName), {});
  add(MetaContext::Kind::kHydration, std::string(kHydrationName), {});
  return contexts;
}

std::optional<MetaContext> context_of(std::uint32_t id, const std::string& name) {
  using Kind = MetaContext::Kind;
  if (name == kAllocationName) return MetaContext{id, Kind::kAllocation, name, {}};
  if (name == kDepthName) return MetaContext{id, Kind::kAllocationDepth, name, {}};
  if (name == kHydrationName) return MetaContext{id, Kind::kHydration, name, {}};
  if (!name.starts_with(kDirtyBitmapPrefix) || name.size() == kDirtyBitmapPrefix.size()) {
    return std::nullopt;
  }
  return MetaContext{id, Kind::kDirtyBitmap, name, name.substr(kDirtyBitmapPrefix.size())};
}

std::optional<MetaQuery> parse_meta_query(ConstBytes data) {
  ByteReader reader(data);
  MetaQuery query;
  const auto name = reader.string32(kMaxStringBytes);
  const auto count = reader.u32();
  if (!name || !count) return std::nullopt;
  query.export_name = *name;
  // Each query takes four bytes at least: a hostile count fails here before anything is allocated
  // for it.
  if (*count > reader.left() / 4) return std::nullopt;
  query.queries.reserve(*count);
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto text = reader.string32(kMaxStringBytes);
    if (!text) return std::nullopt;
    query.queries.emplace_back(*text);
  }
  if (reader.left() != 0) return std::nullopt;
  return query;
}

std::vector<MetaContext> match_contexts(const std::vector<MetaContext>& available,
                                        const std::vector<std::string>& queries, MetaMatch how) {
  if (queries.empty()) return how == MetaMatch::kList ? available : std::vector<MetaContext>{};
  std::vector<MetaContext> matched;
  for (const MetaContext& context : available) {
    const bool wanted = std::any_of(queries.begin(), queries.end(), [&](const std::string& query) {
      return matches(context, query, how);
    });
    if (wanted) matched.push_back(context);
  }
  return matched;
}

std::vector<std::string> match_identities(const Export& disk,
                                          const std::vector<std::string>& queries) {
  std::vector<std::string> matched;
  const auto asked = [&queries](std::string_view text) {
    return std::find(queries.begin(), queries.end(), text) != queries.end();
  };
  const bool any = std::any_of(queries.begin(), queries.end(), [](const std::string& query) {
    return query.starts_with(kIdentityQuery);
  });
  if (!any) return matched;
  for (const std::string& identity : disk.identities()) {
    std::string name = std::string(kIdentityQuery) + identity;
    if (asked(kIdentityQuery) || asked(name)) matched.push_back(std::move(name));
  }
  return matched;
}

}  // namespace blockmig::nbd
