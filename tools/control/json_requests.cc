// SPDX-License-Identifier: Apache-2.0
// Requests as JSON. Decoding is the daemon's edge: what it lets through is well formed and in
// range.
#include "blockmig/base/uri.h"
#include "blockmig/io/stream.h"
#include "tools/control/json.h"
#include "tools/control/json_fields.h"

namespace blockmig {
namespace {

double milliseconds(Duration duration) { return static_cast<double>(duration.count()) / 1e6; }

Result<CacheMode> parse_cache(const std::string& text) {
  if (text == "buffered") return CacheMode::kBuffered;
  if (text == "direct") return CacheMode::kDirect;
  if (text == "map") return CacheMode::kMap;
  return Error(ErrorCode::kInvalid, "cache '" + text + "' is not one of: buffered, direct, map");
}

const char* cache_name(CacheMode cache) {
  switch (cache) {
    case CacheMode::kBuffered:
      return "buffered";
    case CacheMode::kDirect:
      return "direct";
    case CacheMode::kMap:
      return "map";
  }
  return "";
}

Json json_of(const BitmapSpec& bitmap) {
  return {{"name", bitmap.name},
          {"granularity_bytes", bitmap.granularity_bytes},
          {"persistent", bitmap.persistent},
          {"recording", bitmap.recording}};
}

Result<BitmapSpec> bitmap_of_json(const Json& json) {
  BitmapSpec bitmap;
  FieldReader fields(json);
  fields.require("name");
  fields.read("name", bitmap.name);
  fields.read("granularity_bytes", bitmap.granularity_bytes);
  fields.read("persistent", bitmap.persistent);
  fields.read("recording", bitmap.recording);
  fields.refuse_unknown();
  if (!fields.status()) return fields.status().error();
  const Status name = check_name("bitmap", bitmap.name);
  if (!name) return name.error();
  return bitmap;
}

Status read_bitmaps(FieldReader& fields, std::vector<BitmapSpec>& into) {
  const Json* list = fields.find("bitmaps");
  if (list == nullptr) return {};
  if (!list->is_array() || list->size() > kMaxBitmapsPerDisk) {
    return Error(ErrorCode::kInvalid, "field 'bitmaps' must be a list of at most " +
                                          std::to_string(kMaxBitmapsPerDisk) + " objects");
  }
  for (const Json& entry : *list) {
    if (!entry.is_object()) {
      return Error(ErrorCode::kInvalid, "field 'bitmaps' must hold objects");
    }
    const Result<BitmapSpec> bitmap = bitmap_of_json(entry);
    if (!bitmap) return bitmap.error();
    into.push_back(*bitmap);
  }
  return {};
}

/// The canonical form, judged again here: the command line is not the only client.
Status canonicalise(std::string& uri) {
  const Result<StoreUri> parsed = parse_store_uri(uri);
  if (!parsed) return parsed.error();
  uri = parsed->text;
  return {};
}

Status check_serve(ServeRequest& request) {
  const Status name = check_name("disk", request.disk);
  if (!name) return name.error();
  if (!request.source.empty()) {
    const Status source = canonicalise(request.source);
    if (!source) return source.error();
  }
  if (request.description.size() > kMaxDescriptionBytes) {
    return Error(ErrorCode::kInvalid, "the description is longer than " +
                                          std::to_string(kMaxDescriptionBytes) + " bytes");
  }
  if (request.listen.size() > kMaxListenersPerRequest) {
    return Error(ErrorCode::kInvalid, "too many addresses to listen on, at most " +
                                          std::to_string(kMaxListenersPerRequest));
  }
  for (const std::string& address : request.listen) {
    const Result<SocketAddress> parsed = SocketAddress::parse(address);
    if (!parsed) return parsed.error();
    if (parsed->is_abstract()) return Error(ErrorCode::kInvalid, abstract_name_text(address));
  }
  if (request.read_only && request.create_size_bytes != 0) {
    return Error(ErrorCode::kInvalid, "a disk that is created cannot be read-only");
  }
  return {};
}

void read_options(FieldReader& fields, JobOptions& options) {
  fields.read_name("mode", options.mode, parse_mode);
  fields.read_name("on_stall", options.on_stall, parse_on_stall);
  fields.read_name("verify", options.verify, parse_verify);
  fields.read("granularity_bytes", options.granularity_bytes);
  fields.read("copy_depth", options.copy_depth);
  fields.read("copy_request_bytes", options.copy_request_bytes);
  fields.read("copy_window_bytes", options.copy_window_bytes);
  fields.read("bwlimit_bytes_per_second", options.bwlimit_bytes_per_second);
  fields.read_name("priority", options.priority, parse_priority);
  fields.read("mirror_deadline_ms", options.mirror_deadline);
  fields.read("max_guest_latency_ms", options.max_guest_latency);
  fields.read("mirror_window_bytes", options.mirror_window_bytes);
  fields.read("deadline_ms", options.deadline);
  fields.read("point_in_time", options.point_in_time);
  fields.read("keep_record", options.keep_record);
  fields.read("snapshot_buffer_bytes", options.snapshot_buffer_bytes);
  fields.read("max_downtime_ms", options.max_downtime);
  fields.read("target_timeout_ms", options.target_timeout);
  fields.read("reverse_mirror", options.reverse_mirror);
  fields.read("base_patience_ms", options.base_patience);
  fields.read_name("on_target_error", options.on_target_error, parse_on_target_error);
  fields.read("retry_for_ms", options.retry_for);
  fields.read_name("on_restart", options.on_restart, parse_on_restart);
  fields.read("checkpoint_interval_ms", options.checkpoint_interval);
  fields.read_name("hydrate", options.hydrate, parse_hydrate);
}

Status read_backup(FieldReader& fields, MigrateRequest& request) {
  fields.read("backup", request.backup);
  fields.read("since", request.options.since_bitmap);
  const Json* const fresh = fields.find("bitmap");
  if (fresh != nullptr) {
    if (!fresh->is_object()) return Error(ErrorCode::kInvalid, "field 'bitmap' must be an object");
    const Result<BitmapSpec> bitmap = bitmap_of_json(*fresh);
    if (!bitmap) return bitmap.error();
    request.bitmap = *bitmap;
  }
  return check_backup(request);
}

}  // namespace

std::string to_json(const ServeRequest& request) {
  Json json;
  json["disk"] = request.disk;
  json["source"] = request.source;
  json["listen"] = request.listen;
  json["read_only"] = request.read_only;
  json["cache"] = cache_name(request.cache);
  json["bitmaps"] = Json::array();
  for (const BitmapSpec& bitmap : request.bitmaps) json["bitmaps"].push_back(json_of(bitmap));
  json["description"] = request.description;
  json["create_size_bytes"] = request.create_size_bytes;
  json["force_source"] = request.force_source;
  return dump(json, false);
}

Result<ServeRequest> serve_request_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  ServeRequest request;
  FieldReader fields(*json);
  fields.require("disk");
  fields.read("disk", request.disk);
  fields.read("source", request.source);
  fields.read("listen", request.listen);
  fields.read("read_only", request.read_only);
  fields.read_name("cache", request.cache, parse_cache);
  const Status bitmaps = read_bitmaps(fields, request.bitmaps);
  fields.read("description", request.description);
  fields.read("create_size_bytes", request.create_size_bytes);
  fields.read("force_source", request.force_source);
  fields.refuse_unknown();
  if (!fields.status()) return fields.status().error();
  if (!bitmaps) return bitmaps.error();
  const Status checked = check_serve(request);
  if (!checked) return checked.error();
  return request;
}

std::string to_json(const MigrateRequest& request) {
  const JobOptions& options = request.options;
  Json json;
  json["disk"] = request.disk;
  json["target"] = request.target;
  json["mode"] = to_string(options.mode);
  json["on_stall"] = to_string(options.on_stall);
  json["verify"] = to_string(options.verify);
  json["granularity_bytes"] = options.granularity_bytes;
  json["copy_depth"] = options.copy_depth;
  json["copy_request_bytes"] = options.copy_request_bytes;
  json["copy_window_bytes"] = options.copy_window_bytes;
  json["bwlimit_bytes_per_second"] = options.bwlimit_bytes_per_second;
  json["priority"] = to_string(options.priority);
  json["point_in_time"] = options.point_in_time;
  json["keep_record"] = options.keep_record;
  json["snapshot_buffer_bytes"] = options.snapshot_buffer_bytes;
  json["deadline_ms"] = milliseconds(options.deadline);
  json["mirror_deadline_ms"] = milliseconds(options.mirror_deadline);
  json["max_guest_latency_ms"] = milliseconds(options.max_guest_latency);
  json["mirror_window_bytes"] = options.mirror_window_bytes;
  json["max_downtime_ms"] = milliseconds(options.max_downtime);
  json["target_timeout_ms"] = milliseconds(options.target_timeout);
  json["reverse_mirror"] = options.reverse_mirror;
  json["base_patience_ms"] = milliseconds(options.base_patience);
  json["on_target_error"] = to_string(options.on_target_error);
  json["retry_for_ms"] = milliseconds(options.retry_for);
  json["on_restart"] = to_string(options.on_restart);
  json["checkpoint_interval_ms"] = milliseconds(options.checkpoint_interval);
  json["hydrate"] = to_string(options.hydrate);
  if (request.backup) json["backup"] = true;
  if (!options.since_bitmap.empty()) json["since"] = options.since_bitmap;
  if (request.bitmap) json["bitmap"] = json_of(*request.bitmap);
  return dump(json, false);
}

Result<MigrateRequest> migrate_request_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  MigrateRequest request;
  FieldReader fields(*json);
  fields.require("disk");
  fields.require("target");
  fields.read("disk", request.disk);
  fields.read("target", request.target);
  read_options(fields, request.options);
  const Status backup = read_backup(fields, request);
  fields.refuse_unknown();
  if (!fields.status()) return fields.status().error();
  if (!backup) return backup.error();
  const Status name = check_name("disk", request.disk);
  if (!name) return name.error();
  const Status target = canonicalise(request.target);
  if (!target) return target.error();
  const Status options = check_options(request.options);
  if (!options) return options.error();
  return request;
}

std::string to_json(const BitmapSpec& bitmap) { return dump(json_of(bitmap), false); }

Result<BitmapSpec> bitmap_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  return bitmap_of_json(*json);
}

std::string to_json(const BitmapMerge& merge) {
  return dump(Json{{"sources", merge.sources}}, false);
}

Result<BitmapMerge> bitmap_merge_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  BitmapMerge merge;
  FieldReader fields(*json);
  fields.require("sources");
  fields.read("sources", merge.sources);
  fields.refuse_unknown();
  if (!fields.status()) return fields.status().error();
  if (merge.sources.empty() || merge.sources.size() > kMaxBitmapsPerDisk) {
    return Error(ErrorCode::kInvalid, "field 'sources' must name 1 to " +
                                          std::to_string(kMaxBitmapsPerDisk) + " bitmaps");
  }
  return merge;
}

std::string to_json(const JobChange& change) {
  Json json = Json::object();
  if (change.bwlimit_bytes_per_second) {
    json["bwlimit_bytes_per_second"] = *change.bwlimit_bytes_per_second;
  }
  if (change.priority) json["priority"] = to_string(*change.priority);
  if (change.max_downtime) json["max_downtime_ms"] = milliseconds(*change.max_downtime);
  return dump(json, false);
}

Result<JobChange> job_change_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  JobChange change;
  FieldReader fields(*json);
  std::uint64_t rate = 0;
  Priority priority = Priority::kNormal;
  fields.read("bwlimit_bytes_per_second", rate);
  fields.read_name("priority", priority, parse_priority);
  Duration max_downtime{};
  fields.read("max_downtime_ms", max_downtime);
  fields.refuse_unknown();
  if (!fields.status()) return fields.status().error();
  if (fields.find("bwlimit_bytes_per_second") != nullptr) change.bwlimit_bytes_per_second = rate;
  if (fields.find("priority") != nullptr) change.priority = priority;
  if (fields.find("max_downtime_ms") != nullptr) change.max_downtime = max_downtime;
  if (change.max_downtime && *change.max_downtime <= Duration::zero()) {
    return Error(ErrorCode::kInvalid, "field 'max_downtime_ms' must be above zero");
  }
  if (change.bwlimit_bytes_per_second || change.priority || change.max_downtime) return change;
  return Error(ErrorCode::kInvalid,
               "nothing to change: bwlimit_bytes_per_second, priority or max_downtime_ms");
}

std::string bwlimit_to_json(std::uint64_t bytes_per_second) {
  return dump(Json{{"bwlimit_bytes_per_second", bytes_per_second}}, false);
}

Result<std::uint64_t> bwlimit_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  std::uint64_t rate = 0;
  FieldReader fields(*json);
  fields.require("bwlimit_bytes_per_second");
  fields.read("bwlimit_bytes_per_second", rate);
  fields.refuse_unknown();
  if (!fields.status()) return fields.status().error();
  return rate;
}

}  // namespace blockmig
