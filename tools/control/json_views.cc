// SPDX-License-Identifier: Apache-2.0
// Disks, clients, bitmaps, the daemon and errors as JSON.
#include "tools/control/exit_code.h"
#include "tools/control/json.h"
#include "tools/control/json_fields.h"
#include "tools/control/json_lists.h"

namespace blockmig {
namespace {

template <typename Value>
Result<Value> finish(const FieldReader& fields, Value value) {
  if (!fields.status()) return fields.status().error();
  return value;
}

Result<BitmapView> bitmap_of_json(const Json& json) {
  BitmapView bitmap;
  FieldReader fields(json);
  fields.require("name");
  fields.read("name", bitmap.name);
  fields.read("granularity_bytes", bitmap.granularity_bytes);
  fields.read("dirty_chunks", bitmap.dirty_chunks);
  fields.read("dirty_bytes", bitmap.dirty_bytes);
  fields.read("persistent", bitmap.persistent);
  fields.read("recording", bitmap.recording);
  fields.read("inconsistent", bitmap.inconsistent);
  fields.read("id", bitmap.id);
  return finish(fields, bitmap);
}

Result<DiskOpView> op_of_json(const Json& json) {
  DiskOpView op;
  FieldReader fields(json);
  fields.require("op");
  fields.read("op", op.op);
  fields.read("requests", op.requests);
  fields.read("errors", op.errors);
  fields.read("bytes", op.bytes);
  fields.read("in_flight", op.in_flight);
  fields.read("p50_ms", op.p50_ms);
  fields.read("p99_ms", op.p99_ms);
  fields.read("max_ms", op.max_ms);
  return finish(fields, op);
}

Status read_rate(FieldReader& fields, DiskRate& rate) {
  const Json* object = fields.find("rate");
  if (object == nullptr) return {};
  if (!object->is_object()) return Error(ErrorCode::kInvalid, "field 'rate' must be an object");
  FieldReader inner(*object);
  inner.read("requests_per_second", rate.requests_per_second);
  inner.read("read_bytes_per_second", rate.read_bytes_per_second);
  inner.read("write_bytes_per_second", rate.write_bytes_per_second);
  inner.read("p50_ms", rate.p50_ms);
  inner.read("p99_ms", rate.p99_ms);
  inner.read("max_ms", rate.max_ms);
  return inner.status();
}

Result<DiskView> disk_of_json(const Json& json) {
  DiskView disk;
  FieldReader fields(json);
  fields.require("name");
  fields.read("name", disk.name);
  fields.read("store", disk.store_uri);
  fields.read("previous_store", disk.previous_uri);
  fields.read("return_to", disk.return_to);
  fields.read("return_bytes", disk.return_bytes);
  fields.read("return_lost", disk.return_lost);
  fields.read("epoch", disk.epoch);
  fields.read("stamp", disk.stamp);
  fields.read("trouble", disk.trouble);
  fields.read("size_bytes", disk.size_bytes);
  fields.read("read_only", disk.read_only);
  fields.read("description", disk.description);
  fields.read("job", disk.job);
  fields.read("clients", disk.clients);
  fields.read("uris", disk.uris);
  const Status bitmaps = read_list(fields, "bitmaps", disk.bitmaps, bitmap_of_json);
  if (!bitmaps) return bitmaps.error();
  fields.read("requests", disk.requests);
  fields.read("errors", disk.errors);
  fields.read("bytes_read", disk.bytes_read);
  fields.read("bytes_written", disk.bytes_written);
  fields.read("in_flight", disk.in_flight);
  fields.read("p50_ms", disk.p50_ms);
  fields.read("p99_ms", disk.p99_ms);
  fields.read("max_ms", disk.max_ms);
  const Status rate = read_rate(fields, disk.rate);
  if (!rate) return rate.error();
  const Status ops = read_list(fields, "ops", disk.ops, op_of_json);
  if (!ops) return ops.error();
  return finish(fields, disk);
}

Result<ClientView> client_of_json(const Json& json) {
  ClientView client;
  FieldReader fields(json);
  fields.require("id");
  fields.read("id", client.id);
  fields.read("peer", client.peer);
  fields.read("disk", client.disk);
  fields.read("requests", client.requests);
  fields.read("bytes_read", client.bytes_read);
  fields.read("bytes_written", client.bytes_written);
  fields.read("in_flight", client.in_flight);
  fields.read("errors", client.errors);
  fields.read("refused", client.refused);
  fields.read("requests_by_op", client.requests_by_op);
  fields.read("connected_seconds", client.connected_seconds);
  fields.read("idle_seconds", client.idle_seconds);
  fields.read("tls", client.tls);
  fields.read("identity", client.identity);
  fields.read("style", client.style);
  return finish(fields, client);
}

Json json_of(const DaemonView& daemon) {
  Json json;
  json["version"] = daemon.version;
  json["pid"] = daemon.pid;
  json["state_dir"] = daemon.state_dir;
  json["owner"] = daemon.owner;
  json["loop"] = daemon.loop;
  json["uptime_seconds"] = daemon.uptime_seconds;
  json["listen"] = daemon.listen;
  json["bwlimit_bytes_per_second"] = daemon.bwlimit_bytes_per_second;
  json["journal_error"] = daemon.journal_error;
  json["late_disks"] = daemon.late_disks;
  json["refused_disks"] = Json::array();
  for (const RefusedDisk& refused : daemon.refused_disks) {
    json["refused_disks"].push_back(Json{{"disk", refused.disk}, {"why", refused.why}});
  }
  return json;
}

Json json_of(const DiskRate& rate) {
  Json json;
  json["requests_per_second"] = rate.requests_per_second;
  json["read_bytes_per_second"] = rate.read_bytes_per_second;
  json["write_bytes_per_second"] = rate.write_bytes_per_second;
  json["p50_ms"] = rate.p50_ms;
  json["p99_ms"] = rate.p99_ms;
  json["max_ms"] = rate.max_ms;
  return json;
}

Json json_of(const CompareReport::Side& side) {
  return {{"uri", side.uri}, {"size_bytes", side.size_bytes}, {"digest", side.digest}};
}

Result<RefusedDisk> refused_disk_of_json(const Json& json) {
  RefusedDisk refused;
  FieldReader fields(json);
  fields.require("disk");
  fields.read("disk", refused.disk);
  fields.read("why", refused.why);
  return finish(fields, refused);
}

Status read_daemon(FieldReader& fields, DaemonView& daemon) {
  const Json* object = fields.find("daemon");
  if (object == nullptr || !object->is_object()) {
    return Error(ErrorCode::kInvalid, "field 'daemon' must be an object");
  }
  FieldReader inner(*object);
  inner.read("version", daemon.version);
  inner.read("pid", daemon.pid);
  inner.read("state_dir", daemon.state_dir);
  inner.read("owner", daemon.owner);
  inner.read("loop", daemon.loop);
  inner.read("uptime_seconds", daemon.uptime_seconds);
  inner.read("listen", daemon.listen);
  inner.read("bwlimit_bytes_per_second", daemon.bwlimit_bytes_per_second);
  inner.read("journal_error", daemon.journal_error);
  inner.read("late_disks", daemon.late_disks);
  const Status refused =
      read_list(inner, "refused_disks", daemon.refused_disks, refused_disk_of_json);
  if (!refused) return refused;
  return inner.status();
}

}  // namespace

Json json_of(const BitmapView& bitmap) {
  Json json;
  json["name"] = bitmap.name;
  json["granularity_bytes"] = bitmap.granularity_bytes;
  json["dirty_chunks"] = bitmap.dirty_chunks;
  json["dirty_bytes"] = bitmap.dirty_bytes;
  json["persistent"] = bitmap.persistent;
  json["recording"] = bitmap.recording;
  if (!bitmap.inconsistent.empty()) json["inconsistent"] = bitmap.inconsistent;
  if (!bitmap.id.empty()) json["id"] = bitmap.id;
  return json;
}

Json json_of(const DiskOpView& op) {
  Json json;
  json["op"] = op.op;
  json["requests"] = op.requests;
  json["errors"] = op.errors;
  json["bytes"] = op.bytes;
  json["in_flight"] = op.in_flight;
  json["p50_ms"] = op.p50_ms;
  json["p99_ms"] = op.p99_ms;
  json["max_ms"] = op.max_ms;
  return json;
}

Json json_of(const DiskView& disk) {
  Json json;
  json["name"] = disk.name;
  json["store"] = disk.store_uri;
  json["previous_store"] = disk.previous_uri;
  json["return_to"] = disk.return_to;
  json["return_bytes"] = disk.return_bytes;
  json["return_lost"] = disk.return_lost;
  json["epoch"] = disk.epoch;
  json["stamp"] = disk.stamp;
  json["trouble"] = disk.trouble;
  json["size_bytes"] = disk.size_bytes;
  json["read_only"] = disk.read_only;
  json["description"] = disk.description;
  json["job"] = disk.job;
  json["clients"] = disk.clients;
  json["uris"] = disk.uris;
  json["bitmaps"] = list_of(disk.bitmaps);
  json["requests"] = disk.requests;
  json["errors"] = disk.errors;
  json["bytes_read"] = disk.bytes_read;
  json["bytes_written"] = disk.bytes_written;
  json["in_flight"] = disk.in_flight;
  json["p50_ms"] = disk.p50_ms;
  json["p99_ms"] = disk.p99_ms;
  json["max_ms"] = disk.max_ms;
  json["rate"] = json_of(disk.rate);
  json["ops"] = list_of(disk.ops);
  return json;
}

Json json_of(const ClientView& client) {
  Json json;
  json["id"] = client.id;
  json["peer"] = client.peer;
  json["disk"] = client.disk;
  json["requests"] = client.requests;
  json["bytes_read"] = client.bytes_read;
  json["bytes_written"] = client.bytes_written;
  json["in_flight"] = client.in_flight;
  json["errors"] = client.errors;
  json["refused"] = client.refused;
  json["requests_by_op"] = client.requests_by_op;
  json["connected_seconds"] = client.connected_seconds;
  json["idle_seconds"] = client.idle_seconds;
  json["tls"] = client.tls;
  json["identity"] = client.identity;
  json["style"] = client.style;
  return json;
}

std::string to_json(const DiskView& disk, JsonStyle style) {
  return dump(json_of(disk), style == JsonStyle::kPretty);
}
Result<DiskView> disk_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  return disk_of_json(*json);
}
std::string to_json(const std::vector<DiskView>& disks, JsonStyle style) {
  return dump_list("disks", disks, style);
}
Result<std::vector<DiskView>> disks_from_json(const std::string& text) {
  return parse_list<DiskView>(text, "disks", disk_of_json);
}

std::string to_json(const ClientView& client, JsonStyle style) {
  return dump(json_of(client), style == JsonStyle::kPretty);
}
std::string to_json(const BitmapView& bitmap, JsonStyle style) {
  return dump(json_of(bitmap), style == JsonStyle::kPretty);
}
std::string to_json(const std::vector<ClientView>& clients, JsonStyle style) {
  return dump_list("clients", clients, style);
}
Result<std::vector<ClientView>> clients_from_json(const std::string& text) {
  return parse_list<ClientView>(text, "clients", client_of_json);
}

std::string to_json(const std::vector<BitmapView>& bitmaps, JsonStyle style) {
  return dump_list("bitmaps", bitmaps, style);
}
Result<std::vector<BitmapView>> bitmaps_from_json(const std::string& text) {
  return parse_list<BitmapView>(text, "bitmaps", bitmap_of_json);
}

std::string to_json(const CompareReport& report, JsonStyle style) {
  Json json;
  json["equal"] = report.equal;
  json["a"] = json_of(report.a);
  json["b"] = json_of(report.b);
  json["first_difference"] = nullptr;
  if (!report.equal) json["first_difference"] = report.first_difference;
  json["different_chunks"] = report.different_chunks;
  json["chunk_bytes"] = report.chunk_bytes;
  return dump(json, style == JsonStyle::kPretty);
}

std::string to_json(const ManifestReport& report, JsonStyle style) {
  Json json;
  json["image"] = report.image;
  json["size_bytes"] = report.size_bytes;
  json["generation"] = report.generation;
  json["owner"] = report.owner;
  json["owner_epoch"] = report.owner_epoch;
  json["changing"] = report.changing;
  json["chunk_bytes"] = report.chunk_bytes;
  json["known_chunks"] = report.known_chunks;
  json["unknown_chunks"] = report.unknown_chunks;
  json["digest"] = report.digest;
  json["trouble"] = report.trouble;
  json["checked"] = report.checked;
  json["wrong_chunks"] = report.wrong_chunks;
  json["first_wrong"] = nullptr;
  if (report.wrong_chunks != 0) json["first_wrong"] = report.first_wrong;
  return dump(json, style == JsonStyle::kPretty);
}

std::string to_json(const Overview& overview, JsonStyle style) {
  Json json;
  json["daemon"] = json_of(overview.daemon);
  json["disks"] = list_of(overview.disks);
  json["jobs"] = list_of(overview.jobs);
  json["clients"] = list_of(overview.clients);
  return dump(json, style == JsonStyle::kPretty);
}

Result<Overview> overview_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  FieldReader fields(*json);
  Overview overview;
  const Status daemon = read_daemon(fields, overview.daemon);
  if (!daemon) return daemon.error();
  const Status disks = read_list(fields, "disks", overview.disks, disk_of_json);
  if (!disks) return disks.error();
  const Status jobs = read_list(fields, "jobs", overview.jobs, job_of_json);
  if (!jobs) return jobs.error();
  const Status clients = read_list(fields, "clients", overview.clients, client_of_json);
  if (!clients) return clients.error();
  return overview;
}

ControlResponse error_response(const Error& error) {
  Json json;
  json["error"] = {{"code", to_string(error.code())}, {"message", error.message()}};
  return {http_status_of(error.code()), dump(json, false)};
}

Error error_from_response(const ControlResponse& response) {
  const Error unknown(ErrorCode::kProtocol, "the daemon answered with HTTP status " +
                                                std::to_string(response.status) + " and no reason");
  const Result<Json> json = parse_object(response.body);
  if (!json) return unknown;
  FieldReader fields(*json);
  const Json* object = fields.find("error");
  if (object == nullptr || !object->is_object()) return unknown;
  FieldReader inner(*object);
  std::string code;
  std::string message;
  inner.read("code", code);
  inner.read("message", message);
  if (!inner.status() || message.empty()) return unknown;
  return Error(code_from_name(code), message);
}

}  // namespace blockmig
