// SPDX-License-Identifier: Apache-2.0
#include "tools/control/json_fields.h"

namespace blockmig {
namespace {

constexpr std::size_t kMaxListEntries = 1024;
constexpr double kMaxMilliseconds = 366.0 * 24 * 3600 * 1000;

}  // namespace

Result<Json> parse_object(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Error(ErrorCode::kInvalid, "the text is not JSON");
  if (!json.is_object()) return Error(ErrorCode::kInvalid, "the JSON text is not an object");
  return json;
}

std::string dump(const Json& json, bool pretty) {
  return json.dump(pretty ? 2 : -1, ' ', false, Json::error_handler_t::replace);
}

void FieldReader::read(const char* key, Duration& into) {
  const Json* value = find(key);
  if (value == nullptr) return;
  if (!value->is_number()) return fail(key, "must be a number of milliseconds");
  const double milliseconds = value->get<double>();
  if (!(milliseconds >= 0 && milliseconds <= kMaxMilliseconds)) {
    return fail(key, "must be from 0 to one year");
  }
  into = Duration(static_cast<Duration::rep>(milliseconds * 1e6));
}

void FieldReader::read(const char* key, std::vector<std::string>& into) {
  const Json* value = find(key);
  if (value == nullptr) return;
  if (!value->is_array()) return fail(key, "must be a list of strings");
  if (value->size() > kMaxListEntries) return fail(key, "has too many entries");
  into.clear();
  for (const Json& entry : *value) {
    if (!entry.is_string()) return fail(key, "must be a list of strings");
    into.push_back(entry.get<std::string>());
  }
}

void FieldReader::read(const char* key, std::map<std::string, std::uint64_t>& into) {
  const Json* value = find(key);
  if (value == nullptr) return;
  if (!value->is_object()) return fail(key, "must be an object of counts");
  if (value->size() > kMaxListEntries) return fail(key, "has too many entries");
  into.clear();
  for (const auto& [name, count] : value->items()) {
    if (!count.is_number_unsigned()) return fail(key, "must be an object of counts");
    into[name] = count.get<std::uint64_t>();
  }
}

void FieldReader::refuse_unknown() {
  for (const auto& [key, value] : object_.items()) {
    if (!seen_.contains(key)) return fail(key.c_str(), "is not known here");
  }
}

}  // namespace blockmig
