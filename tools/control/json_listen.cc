// SPDX-License-Identifier: Apache-2.0
#include "tools/control/json_fields.h"
#include "tools/control/listen_record.h"

namespace blockmig {

std::string to_json(const ListenRecord& record) {
  Json json;
  json["version"] = kListenRecordVersion;
  json["tls"] = record.protection.tls;
  json["rules"] = record.protection.rules;
  json["users"] = record.protection.users;
  json["plain_meant"] = record.protection.plain_meant;
  if (record.unix_sockets.mode) json["socket_mode"] = *record.unix_sockets.mode;
  if (record.unix_sockets.gid) json["socket_group"] = *record.unix_sockets.gid;
  return dump(json, false);
}

Result<ListenRecord> listen_record_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json.ok()) return json.error();
  FieldReader fields(*json);
  std::uint32_t version = 0;
  fields.read("version", version);
  if (version != kListenRecordVersion) {
    return Error(ErrorCode::kPrecondition, "how it was listened on is recorded in version " +
                                               std::to_string(version) + ", this program knows " +
                                               std::to_string(kListenRecordVersion));
  }
  ListenRecord record;
  fields.read("tls", record.protection.tls);
  fields.read("rules", record.protection.rules);
  fields.read("users", record.protection.users);
  fields.read("plain_meant", record.protection.plain_meant);
  const auto read_number = [&fields](const char* key, std::optional<std::uint32_t>& into) {
    if (fields.find(key) == nullptr) return;
    std::uint32_t value = 0;
    fields.read(key, value);
    into = value;
  };
  read_number("socket_mode", record.unix_sockets.mode);
  read_number("socket_group", record.unix_sockets.gid);
  if (!fields.status().ok()) return fields.status().error();
  return record;
}

}  // namespace blockmig
