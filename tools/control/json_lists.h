// SPDX-License-Identifier: Apache-2.0
// Lists of values as {"NAME":[…]}, and the JSON forms that several sources of this folder share.
// Only for this folder's sources.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/control/json.h"
#include "tools/control/json_fields.h"

namespace blockmig {

Json json_of(const JobStatus& job);
Result<JobStatus> job_of_json(const Json& json);
Json json_of(const DiskView& disk);
Json json_of(const ClientView& client);
Json json_of(const BitmapView& bitmap);
Json json_of(const DiskOpView& op);

template <typename Value>
Json list_of(const std::vector<Value>& values) {
  Json list = Json::array();
  for (const Value& value : values) list.push_back(json_of(value));
  return list;
}

template <typename Value>
std::string dump_list(const char* name, const std::vector<Value>& values, JsonStyle style) {
  Json json;
  json[name] = list_of(values);
  return dump(json, style == JsonStyle::kPretty);
}

template <typename Value, typename Read>
Status read_list(FieldReader& fields, const char* name, std::vector<Value>& into, Read read) {
  const Json* list = fields.find(name);
  if (list == nullptr) return {};
  if (!list->is_array()) return Error(ErrorCode::kInvalid, std::string(name) + " is not a list");
  for (const Json& entry : *list) {
    if (!entry.is_object()) {
      return Error(ErrorCode::kInvalid, std::string(name) + " holds something that is no object");
    }
    Result<Value> value = read(entry);
    if (!value) return value.error();
    into.push_back(*std::move(value));
  }
  return {};
}

template <typename Value, typename Read>
Result<std::vector<Value>> parse_list(const std::string& text, const char* name, Read read) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  FieldReader fields(*json);
  fields.require(name);
  if (!fields.status()) return fields.status().error();
  std::vector<Value> values;
  const Status status = read_list(fields, name, values, read);
  if (!status) return status.error();
  return values;
}

}  // namespace blockmig
