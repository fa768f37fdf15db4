// SPDX-License-Identifier: Apache-2.0
// FieldReader: takes typed fields out of a JSON object and remembers the first thing that was
// wrong. Only for this folder's sources. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

using Json = nlohmann::ordered_json;

/// kInvalid: not JSON, or not an object.
Result<Json> parse_object(const std::string& text);
/// Bytes that are not UTF-8 (a file name may hold any) are replaced, not thrown at.
std::string dump(const Json& json, bool pretty);

class FieldReader final {
 public:
  /// `object` outlives the reader.
  explicit FieldReader(const Json& object) : object_(object) {}

  void read(const char* key, std::string& into) {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_string()) return fail(key, "must be a string");
    into = value->get<std::string>();
    if (into.find('\0') != std::string::npos) fail(key, "must not hold a NUL");
  }
  void read(const char* key, bool& into) {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) return fail(key, "must be true or false");
    into = value->get<bool>();
  }
  void read(const char* key, std::uint64_t& into) {
    const Json* value = find(key);
    if (value == nullptr) return;
    // A non-negative literal is unsigned in this parser; anything else is not a count.
    if (!value->is_number_unsigned()) return fail(key, "must be a whole number, not negative");
    into = value->get<std::uint64_t>();
  }
  void read(const char* key, std::uint32_t& into) {
    std::uint64_t wide = into;
    read(key, wide);
    if (wide > std::numeric_limits<std::uint32_t>::max()) return fail(key, "is too large");
    into = static_cast<std::uint32_t>(wide);
  }
  void read(const char* key, double& into) {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_number()) return fail(key, "must be a number");
    into = value->get<double>();
  }
  /// Milliseconds, fractions allowed.
  void read(const char* key, Duration& into);
  void read(const char* key, std::vector<std::string>& into);
  /// An object of counts.
  void read(const char* key, std::map<std::string, std::uint64_t>& into);
  /// The object or array under `key`; null if there is none.
  const Json* find(const char* key) {
    seen_.insert(key);
    const auto place = object_.find(key);
    return place == object_.end() || place->is_null() ? nullptr : &*place;
  }
  /// A text that `parse` turns into a value, with its own error message.
  template <typename Value, typename Parse>
  void read_name(const char* key, Value& into, Parse parse) {
    std::string text;
    read(key, text);
    if (text.empty()) return;
    const Result<Value> value = parse(text);
    if (value.ok()) {
      into = *value;
    } else if (status_.ok()) {
      status_ = value.error();
    }
  }
  void require(const char* key) {
    if (find(key) == nullptr) fail(key, "is missing");
  }
  void refuse_unknown();
  void fail(const char* key, const char* what) {
    if (status_.ok()) {
      status_ = Error(ErrorCode::kInvalid, std::string("field '") + key + "' " + what);
    }
  }
  const Status& status() const { return status_; }

 private:
  const Json& object_;
  std::set<std::string> seen_;
  Status status_;
};

}  // namespace blockmig
