// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <utility>

#include "tools/control/handover_state.h"
#include "tools/control/json.h"
#include "tools/control/json_fields.h"

namespace blockmig {
namespace {

std::string to_hex(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto value = static_cast<unsigned char>(c);
    text += kDigits[value >> 4];
    text += kDigits[value & 15];
  }
  return text;
}

Result<std::string> from_hex(const std::string& text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  if (text.size() % 2 != 0 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return Error(ErrorCode::kInvalid, "bytes that are not pairs of hexadecimal digits");
  }
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    bytes += static_cast<char>(digit(text[i]) << 4 | digit(text[i + 1]));
  }
  return bytes;
}

Json json_of(const HandoverClient& client) {
  Json json;
  json["id"] = client.id;
  json["requests"] = client.past.requests;
  json["requests_by_op"] = Json::object();
  for (const NbdOp op : kNbdOps) json["requests_by_op"][to_string(op)] = client.past.of(op);
  json["errors"] = client.past.errors;
  json["refused"] = client.past.refused;
  json["bytes_read"] = client.past.bytes_read;
  json["bytes_written"] = client.past.bytes_written;
  json["connected_ms"] = std::chrono::duration<double, std::milli>(client.past.connected).count();
  json["disk"] = client.disk;
  json["style"] = client.style;
  json["size_bytes"] = client.size_bytes;
  json["minimum_block"] = client.minimum_block;
  json["preferred_block"] = client.preferred_block;
  json["maximum_payload"] = client.maximum_payload;
  json["max_request_bytes"] = client.max_request_bytes;
  json["read_only"] = client.read_only;
  json["can_trim"] = client.can_trim;
  json["can_fast_zero"] = client.can_fast_zero;
  json["has_contexts"] = client.has_contexts;
  json["contexts"] = Json::array();
  for (const HandoverContext& context : client.contexts) {
    json["contexts"].push_back(Json{{"id", context.id}, {"name", context.name}});
  }
  json["leftover"] = to_hex(client.leftover);
  return json;
}

/// Calls `read(entry)` for every object in the list under `key`.
template <typename Read>
Status for_each_entry(FieldReader& fields, const char* key, Read read) {
  const Json* list = fields.find(key);
  if (list == nullptr || !list->is_array()) {
    return Error(ErrorCode::kInvalid, std::string("field '") + key + "' is not a list");
  }
  for (const Json& entry : *list) {
    const Status done = read(entry);
    if (!done.ok()) return done.error().with_context(key);
  }
  return {};
}

Status read_bytes(FieldReader& fields, const char* key, std::string& into) {
  std::string text;
  fields.require(key);
  fields.read(key, text);
  Result<std::string> bytes = from_hex(text);
  if (!bytes.ok()) return bytes.error();
  into = *std::move(bytes);
  return {};
}

Status read_client(const Json& json, HandoverClient& client) {
  if (!json.is_object()) return Error(ErrorCode::kInvalid, "not an object");
  FieldReader fields(json);
  for (const char* key : {"disk", "style", "size_bytes", "max_request_bytes"}) fields.require(key);
  fields.read("disk", client.disk);
  fields.read("id", client.id);
  fields.read("requests", client.past.requests);
  std::map<std::string, std::uint64_t> by_op;
  fields.read("requests_by_op", by_op);
  for (const NbdOp op : kNbdOps) client.past.of(op) = by_op[to_string(op)];
  fields.read("errors", client.past.errors);
  fields.read("refused", client.past.refused);
  fields.read("bytes_read", client.past.bytes_read);
  fields.read("bytes_written", client.past.bytes_written);
  fields.read("connected_ms", client.past.connected);
  fields.read("style", client.style);
  fields.read("size_bytes", client.size_bytes);
  fields.read("minimum_block", client.minimum_block);
  fields.read("preferred_block", client.preferred_block);
  fields.read("maximum_payload", client.maximum_payload);
  fields.read("max_request_bytes", client.max_request_bytes);
  fields.read("read_only", client.read_only);
  fields.read("can_trim", client.can_trim);
  fields.read("can_fast_zero", client.can_fast_zero);
  fields.read("has_contexts", client.has_contexts);
  const Status contexts = for_each_entry(fields, "contexts", [&](const Json& entry) -> Status {
    if (!entry.is_object()) return Error(ErrorCode::kInvalid, "not an object");
    FieldReader context(entry);
    HandoverContext read;
    context.require("id");
    context.read("id", read.id);
    context.read("name", read.name);
    client.contexts.push_back(std::move(read));
    return context.status();
  });
  const Status leftover = read_bytes(fields, "leftover", client.leftover);
  if (!fields.status().ok()) return fields.status();
  if (!contexts.ok()) return contexts;
  return leftover;
}

Status read_disk(const Json& json, HandoverDisk& disk) {
  if (!json.is_object()) return Error(ErrorCode::kInvalid, "not an object");
  FieldReader fields(json);
  const Json* request = fields.find("request");
  if (request == nullptr) return Error(ErrorCode::kInvalid, "a disk without a request");
  Result<ServeRequest> parsed = serve_request_from_json(request->dump());
  if (!parsed.ok()) return parsed.error();
  disk.request = *std::move(parsed);
  return for_each_entry(fields, "bitmaps", [&](const Json& entry) -> Status {
    if (!entry.is_object()) return Error(ErrorCode::kInvalid, "not an object");
    FieldReader bitmap(entry);
    HandoverBitmap read;
    bitmap.read("name", read.name);
    bitmap.read("recording", read.recording);
    bitmap.read("id", read.id);
    const Status frame = read_bytes(bitmap, "frame", read.frame);
    if (!frame.ok()) return frame;
    disk.bitmaps.push_back(std::move(read));
    return bitmap.status();
  });
}

/// Programs before this one did not say what was asked for.
Status read_listeners(FieldReader& fields, HandoverState& state) {
  const Status owned = for_each_entry(fields, "owned_listeners", [&](const Json& entry) -> Status {
    if (!entry.is_boolean()) return Error(ErrorCode::kInvalid, "not true or false");
    state.listeners.push_back({entry.get<bool>()});
    return {};
  });
  if (!owned.ok() || fields.find("listeners_asked") == nullptr) return owned;
  std::size_t index = 0;
  return for_each_entry(fields, "listeners_asked", [&](const Json& entry) -> Status {
    if (!entry.is_string() || index == state.listeners.size()) {
      return Error(ErrorCode::kInvalid, "not one address for each listener");
    }
    state.listeners[index++].asked = entry.get<std::string>();
    return {};
  });
}

Status read_cookies(FieldReader& fields, HandoverState& state) {
  if (fields.find("cookies") == nullptr) return {};
  return for_each_entry(fields, "cookies", [&](const Json& entry) -> Status {
    if (!entry.is_number_unsigned()) return Error(ErrorCode::kInvalid, "not a number");
    state.cookies.push_back(entry.get<std::uint64_t>());
    return {};
  });
}

}  // namespace

std::string to_json(const HandoverState& state) {
  Json json;
  json["version"] = kHandoverVersion;
  json["owned_listeners"] = json["listeners_asked"] = Json::array();
  for (const HandoverListener& listener : state.listeners) {
    json["owned_listeners"].push_back(listener.owned);
    json["listeners_asked"].push_back(listener.asked);
  }
  if (!state.cookies.empty()) json["cookies"] = state.cookies;
  json["protection"] = Json{{"tls", state.protection.tls},
                            {"rules", state.protection.rules},
                            {"users", state.protection.users}};
  json["clients"] = Json::array();
  for (const HandoverClient& client : state.clients) json["clients"].push_back(json_of(client));
  json["disks"] = Json::array();
  for (const HandoverDisk& disk : state.disks) {
    Json entry;
    entry["request"] = Json::parse(to_json(disk.request));
    entry["bitmaps"] = Json::array();
    for (const HandoverBitmap& bitmap : disk.bitmaps) {
      entry["bitmaps"].push_back(Json{{"name", bitmap.name},
                                      {"recording", bitmap.recording},
                                      {"id", bitmap.id},
                                      {"frame", to_hex(bitmap.frame)}});
    }
    json["disks"].push_back(std::move(entry));
  }
  return dump(json, false);
}

Result<HandoverState> handover_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json.ok()) return json.error();
  FieldReader fields(*json);
  std::uint32_t version = 0;
  fields.read("version", version);
  if (version != kHandoverVersion) {
    return Error(ErrorCode::kPrecondition, "the other daemon hands over in version " +
                                               std::to_string(version) + ", this program knows " +
                                               std::to_string(kHandoverVersion));
  }
  HandoverState state;
  const Json* const protection = fields.find("protection");
  if (protection != nullptr) {
    if (!protection->is_object()) return Error(ErrorCode::kInvalid, "not an object");
    FieldReader kept(*protection);
    kept.read("tls", state.protection.tls);
    kept.read("rules", state.protection.rules);
    kept.read("users", state.protection.users);
    if (!kept.status().ok()) return kept.status().error();
  }
  Status read = read_listeners(fields, state);
  if (!read.ok()) return read.error();
  read = read_cookies(fields, state);
  if (!read.ok()) return read.error();
  read = for_each_entry(fields, "clients", [&](const Json& entry) {
    return read_client(entry, state.clients.emplace_back());
  });
  if (!read.ok()) return read.error();
  read = for_each_entry(fields, "disks", [&](const Json& entry) {
    return read_disk(entry, state.disks.emplace_back());
  });
  if (!read.ok()) return read.error();
  return state;
}

}  // namespace blockmig
