// SPDX-License-Identifier: Apache-2.0
// What lies beside a backup, as JSON.
#include "tools/control/backup_record.h"
#include "tools/control/json_fields.h"

namespace blockmig {
namespace {

constexpr std::uint32_t kFormat = 1;
constexpr const char* kComplete = "complete";
constexpr const char* kIncomplete = "incomplete";

Status read_bitmaps(FieldReader& fields, std::vector<BackupRecord::Bitmap>& into) {
  const Json* const list = fields.find("bitmaps");
  if (list == nullptr || !list->is_array()) {
    return Error(ErrorCode::kInvalid, "field 'bitmaps' is not a list");
  }
  for (const Json& entry : *list) {
    if (!entry.is_object()) return Error(ErrorCode::kInvalid, "field 'bitmaps' must hold objects");
    FieldReader bitmap(entry);
    BackupRecord::Bitmap read;
    bitmap.require("id");
    bitmap.read("name", read.name);
    bitmap.read("id", read.id);
    if (!bitmap.status()) return bitmap.status();
    into.push_back(std::move(read));
  }
  return {};
}

}  // namespace

std::string to_json(const BackupRecord& record) {
  Json json;
  json["format"] = kFormat;
  json["disk"] = record.disk;
  json["size_bytes"] = record.size_bytes;
  json["state"] = record.complete ? kComplete : kIncomplete;
  json["since"] = record.since;
  json["bitmaps"] = Json::array();
  for (const BackupRecord::Bitmap& bitmap : record.bitmaps) {
    json["bitmaps"].push_back(Json{{"name", bitmap.name}, {"id", bitmap.id}});
  }
  json["image"] = record.image;
  json["inode"] = record.inode;
  return dump(json, true);
}

Result<BackupRecord> backup_record_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  FieldReader fields(*json);
  std::uint32_t format = 0;
  fields.read("format", format);
  if (format > kFormat) {
    return Error(ErrorCode::kPrecondition, "written by a newer program, in format " +
                                               std::to_string(format) + "; this one knows " +
                                               std::to_string(kFormat));
  }
  BackupRecord record;
  std::string state;
  for (const char* const key : {"format", "disk", "size_bytes", "state"}) fields.require(key);
  fields.read("disk", record.disk);
  fields.read("size_bytes", record.size_bytes);
  fields.read("state", state);
  fields.read("since", record.since);
  fields.read("image", record.image);
  fields.read("inode", record.inode);
  const Status bitmaps = read_bitmaps(fields, record.bitmaps);
  if (!fields.status()) return fields.status().error();
  if (!bitmaps) return bitmaps.error();
  if (state != kComplete && state != kIncomplete) {
    return Error(ErrorCode::kInvalid, "field 'state' is neither complete nor incomplete");
  }
  record.complete = state == kComplete;
  return record;
}

}  // namespace blockmig
