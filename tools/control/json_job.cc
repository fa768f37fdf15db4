// SPDX-License-Identifier: Apache-2.0
// JobStatus as JSON: the object that `blockmig status -o json` prints; its fields are an interface.
#include <array>
#include <utility>

#include "tools/control/exit_code.h"
#include "tools/control/json.h"
#include "tools/control/json_fields.h"
#include "tools/control/json_lists.h"

namespace blockmig {
namespace {

template <typename Value, std::size_t kCount>
Result<Value> parse_enumerator(const std::string& text, const std::array<Value, kCount>& values) {
  for (const Value value : values) {
    if (to_string(value) == text) return value;
  }
  return Error(ErrorCode::kInvalid, "'" + text + "' is not a known state or phase");
}

Result<JobState> parse_state(const std::string& text) {
  return parse_enumerator(text, std::array{JobState::kRunning, JobState::kPaused, JobState::kDone,
                                           JobState::kFailed, JobState::kAborted});
}

Result<Phase> parse_phase(const std::string& text) {
  return parse_enumerator(text, std::array{Phase::kPreparing, Phase::kCopying, Phase::kMirroring,
                                           Phase::kSwitching, Phase::kHydrating, Phase::kEnded});
}

void read_error(FieldReader& fields, std::optional<Error>& into) {
  const Json* object = fields.find("error");
  if (object == nullptr) return;
  if (!object->is_object()) return fields.fail("error", "must be an object");
  FieldReader inner(*object);
  std::string code;
  std::string message;
  inner.read("code", code);
  inner.read("message", message);
  if (!inner.status()) return fields.fail("error", "must have a code and a message");
  into = Error(code_from_name(code), message);
}

void read_digests(FieldReader& fields, JobStatus& job) {
  const Json* object = fields.find("digests");
  if (object == nullptr) return;
  if (!object->is_object()) return fields.fail("digests", "must be an object");
  FieldReader inner(*object);
  inner.read("source", job.source_digest);
  inner.read("target", job.target_digest);
  inner.read("read_back", job.read_back);
  if (!inner.status()) fields.fail("digests", "must hold what they were written with");
}

void read_decisions(FieldReader& fields, JobStatus& job) {
  const Json* list = fields.find("decisions");
  if (list == nullptr) return;
  if (!list->is_array()) return fields.fail("decisions", "must be a list");
  for (const Json& object : *list) {
    if (!object.is_object()) return fields.fail("decisions", "must hold objects");
    FieldReader inner(object);
    Decision decision;
    inner.read("at_seconds", decision.at_seconds);
    inner.read("what", decision.what);
    inner.read("why", decision.why);
    if (!inner.status()) return fields.fail("decisions", "must say what and why");
    job.decisions.push_back(std::move(decision));
  }
}

void read_latency(FieldReader& fields, const char* key, GuestLatency& latency) {
  const Json* object = fields.find(key);
  if (object == nullptr) return;
  if (!object->is_object()) return fields.fail(key, "must be an object");
  FieldReader inner(*object);
  inner.read("requests", latency.requests);
  inner.read("p50_ms", latency.p50_ms);
  inner.read("p99_ms", latency.p99_ms);
  inner.read("max_ms", latency.max_ms);
  if (!inner.status()) fields.fail(key, "must hold what it was written with");
}

Json latency_json(const GuestLatency& latency) {
  return {{"requests", latency.requests},
          {"p50_ms", latency.p50_ms},
          {"p99_ms", latency.p99_ms},
          {"max_ms", latency.max_ms}};
}

void write_guest(Json& json, const JobStatus& job) {
  json["guest_before"] = latency_json(job.guest_before);
  json["guest_after"] = latency_json(job.guest_after);
  json["pace_bytes_per_second"] = job.pace_bytes_per_second;
  json["pace_depth"] = job.pace_depth;
  json["guest_share"] = job.guest_share;
}

void write_bytes(Json& json, const JobStatus& job) {
  json["size_bytes"] = job.size_bytes;
  json["bytes_total"] = job.bytes_total;
  json["bytes_unchanged"] = job.bytes_unchanged;
  json["bytes_at_rest"] = job.bytes_at_rest;
  json["bytes_copied"] = job.bytes_copied;
  json["bytes_copied_first_pass"] = job.bytes_copied_first_pass;
  json["bytes_mirrored"] = job.bytes_mirrored;
  json["bytes_zero"] = job.bytes_zero;
  json["remaining_bytes"] = job.remaining_bytes;
}

void read_bytes(FieldReader& fields, JobStatus& job) {
  fields.read("size_bytes", job.size_bytes);
  fields.read("bytes_total", job.bytes_total);
  fields.read("bytes_unchanged", job.bytes_unchanged);
  fields.read("bytes_at_rest", job.bytes_at_rest);
  fields.read("bytes_copied", job.bytes_copied);
  fields.read("bytes_copied_first_pass", job.bytes_copied_first_pass);
  fields.read("bytes_mirrored", job.bytes_mirrored);
  fields.read("bytes_zero", job.bytes_zero);
  fields.read("remaining_bytes", job.remaining_bytes);
}

Json hydration_of(const JobStatus& job) {
  return {{"bytes_hydrated", job.bytes_hydrated}, {"bytes_spared", job.bytes_spared},
          {"pulls_demanded", job.pulls_demanded}, {"pulls_prefetched", job.pulls_prefetched},
          {"pulls_pushed", job.pulls_pushed},     {"demand_p50_ms", job.demand_p50_ms},
          {"demand_p99_ms", job.demand_p99_ms},   {"reverse_mirror", job.reverse_mirror},
          {"depends_on", job.depends_on}};
}

void read_hydration(FieldReader& fields, JobStatus& job) {
  const Json* object = fields.find("hydration");
  if (object == nullptr) return;
  if (!object->is_object()) return fields.fail("hydration", "must be an object");
  FieldReader inner(*object);
  inner.read("bytes_hydrated", job.bytes_hydrated);
  inner.read("bytes_spared", job.bytes_spared);
  inner.read("pulls_demanded", job.pulls_demanded);
  inner.read("pulls_prefetched", job.pulls_prefetched);
  inner.read("pulls_pushed", job.pulls_pushed);
  inner.read("demand_p50_ms", job.demand_p50_ms);
  inner.read("demand_p99_ms", job.demand_p99_ms);
  inner.read("reverse_mirror", job.reverse_mirror);
  inner.read("depends_on", job.depends_on);
  if (!inner.status()) fields.fail("hydration", "must hold what it was written with");
}

}  // namespace

Json json_of(const JobStatus& job) {
  Json json;
  json["id"] = job.id;
  json["disk"] = job.disk;
  json["mode"] = to_string(job.mode);
  json["active_mode"] = to_string(job.active_mode);
  json["state"] = to_string(job.state);
  json["phase"] = to_string(job.phase);
  json["error"] = nullptr;
  if (job.error) {
    json["error"] = {{"code", to_string(job.error->code())}, {"message", job.error->message()}};
  }
  json["paused_because"] = job.paused_because;
  json["verdict"] = job.verdict;
  json["source"] = job.source_uri;
  json["target"] = job.target_uri;
  json["epoch"] = job.epoch;
  json["attempt"] = job.attempt;
  write_bytes(json, job);
  json["passes"] = job.passes;
  json["rate_bytes_per_second"] = job.rate_bytes_per_second;
  json["dirty_rate_bytes_per_second"] = job.dirty_rate_bytes_per_second;
  json["throttle_bytes_per_second"] = job.throttle_bytes_per_second;
  json["bwlimit_bytes_per_second"] = job.bwlimit_bytes_per_second;
  json["priority"] = to_string(job.priority);
  json["max_downtime_ms"] = job.max_downtime_ms;
  json["mirror_deadline_misses"] = job.mirror_deadline_misses;
  json["mirror_fallbacks"] = job.mirror_fallbacks;
  json["longest_mirror_wait_ms"] = job.longest_mirror_wait_ms;
  json["target_errors"] = job.target_errors;
  json["target_losses"] = job.target_losses;
  json["mismatched_chunks"] = job.mismatched_chunks;
  json["point_in_time"] = job.point_in_time;
  if (!job.since_bitmap.empty()) json["since"] = job.since_bitmap;
  json["generations_begun"] = job.generations_begun;
  json["generations_complete"] = job.generations_complete;
  json["chunks_kept"] = job.chunks_kept;
  json["checkpoints"] = job.checkpoints;
  json["active_regions"] = job.active_regions;
  json["resumed"] = job.resumed;
  json["interrupted_in"] = job.interrupted_in;
  json["suspended"] = job.suspended;
  json["switchover_attempts"] = job.switchover_attempts;
  json["switchovers_postponed"] = job.switchovers_postponed;
  json["postponed_ms"] = job.postponed_ms;
  json["switched"] = job.switched;
  json["owner_unknown"] = job.owner_unknown;
  json["hydration"] = hydration_of(job);
  json["elapsed_seconds"] = job.elapsed_seconds;
  json["earlier_seconds"] = job.earlier_seconds;
  json["predicted_downtime_ms"] = job.predicted_downtime_ms;
  json["stall_ms"] = job.stall_ms;
  json["longest_request_ms"] = job.longest_request_ms;
  json["guest_p50_ms"] = job.guest_p50_ms;
  json["guest_p99_ms"] = job.guest_p99_ms;
  write_guest(json, job);
  json["decisions"] = Json::array();
  for (const Decision& decision : job.decisions) {
    json["decisions"].push_back(
        {{"at_seconds", decision.at_seconds}, {"what", decision.what}, {"why", decision.why}});
  }
  json["decisions_dropped"] = job.decisions_dropped;
  json["digests"] = {
      {"source", job.source_digest}, {"target", job.target_digest}, {"read_back", job.read_back}};
  return json;
}

Result<JobStatus> job_of_json(const Json& json) {
  JobStatus job;
  FieldReader fields(json);
  fields.require("id");
  fields.require("state");
  fields.read("id", job.id);
  fields.read("disk", job.disk);
  fields.read_name("mode", job.mode, parse_mode);
  fields.read_name("active_mode", job.active_mode, parse_mode);
  fields.read_name("state", job.state, parse_state);
  fields.read_name("phase", job.phase, parse_phase);
  read_error(fields, job.error);
  fields.read("paused_because", job.paused_because);
  fields.read("verdict", job.verdict);
  fields.read("source", job.source_uri);
  fields.read("target", job.target_uri);
  fields.read("epoch", job.epoch);
  fields.read("attempt", job.attempt);
  read_bytes(fields, job);
  fields.read("passes", job.passes);
  fields.read("rate_bytes_per_second", job.rate_bytes_per_second);
  fields.read("dirty_rate_bytes_per_second", job.dirty_rate_bytes_per_second);
  fields.read("throttle_bytes_per_second", job.throttle_bytes_per_second);
  fields.read("bwlimit_bytes_per_second", job.bwlimit_bytes_per_second);
  fields.read_name("priority", job.priority, parse_priority);
  fields.read("max_downtime_ms", job.max_downtime_ms);
  fields.read("mirror_deadline_misses", job.mirror_deadline_misses);
  fields.read("mirror_fallbacks", job.mirror_fallbacks);
  fields.read("longest_mirror_wait_ms", job.longest_mirror_wait_ms);
  fields.read("target_errors", job.target_errors);
  fields.read("target_losses", job.target_losses);
  fields.read("mismatched_chunks", job.mismatched_chunks);
  fields.read("point_in_time", job.point_in_time);
  fields.read("since", job.since_bitmap);
  fields.read("generations_begun", job.generations_begun);
  fields.read("generations_complete", job.generations_complete);
  fields.read("chunks_kept", job.chunks_kept);
  fields.read("checkpoints", job.checkpoints);
  fields.read("active_regions", job.active_regions);
  fields.read("resumed", job.resumed);
  fields.read("interrupted_in", job.interrupted_in);
  fields.read("suspended", job.suspended);
  fields.read("switchover_attempts", job.switchover_attempts);
  fields.read("switchovers_postponed", job.switchovers_postponed);
  fields.read("postponed_ms", job.postponed_ms);
  fields.read("elapsed_seconds", job.elapsed_seconds);
  fields.read("earlier_seconds", job.earlier_seconds);
  fields.read("predicted_downtime_ms", job.predicted_downtime_ms);
  fields.read("stall_ms", job.stall_ms);
  fields.read("longest_request_ms", job.longest_request_ms);
  fields.read("guest_p50_ms", job.guest_p50_ms);
  fields.read("guest_p99_ms", job.guest_p99_ms);
  read_latency(fields, "guest_before", job.guest_before);
  read_latency(fields, "guest_after", job.guest_after);
  fields.read("pace_bytes_per_second", job.pace_bytes_per_second);
  fields.read("pace_depth", job.pace_depth);
  fields.read("guest_share", job.guest_share);
  read_decisions(fields, job);
  fields.read("decisions_dropped", job.decisions_dropped);
  fields.read("switched", job.switched);
  fields.read("owner_unknown", job.owner_unknown);
  read_hydration(fields, job);
  read_digests(fields, job);
  if (!fields.status()) return fields.status().error();
  return job;
}

std::string to_json(const JobStatus& job, JsonStyle style) {
  return dump(json_of(job), style == JsonStyle::kPretty);
}

Result<JobStatus> job_from_json(const std::string& text) {
  const Result<Json> json = parse_object(text);
  if (!json) return json.error();
  return job_of_json(*json);
}

std::string to_json(const std::vector<JobStatus>& jobs, JsonStyle style) {
  return dump_list("jobs", jobs, style);
}

Result<std::vector<JobStatus>> jobs_from_json(const std::string& text) {
  return parse_list<JobStatus>(text, "jobs", job_of_json);
}

}  // namespace blockmig
