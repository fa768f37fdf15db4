// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/control_api.h"

#include <charconv>
#include <utility>

#include "tools/control/listen_record.h"

namespace blockmig {
namespace {

constexpr std::size_t kMaxPathParts = 8;

ControlResponse no_such_path(const ControlRequest& request) {
  return error_response(
      Error(ErrorCode::kNotFound, "no such request: " + request.method + " " + request.path));
}

ControlResponse done() { return {200, "{}"}; }

template <typename Value>
ControlResponse respond(const Result<Value>& result) {
  if (!result) return error_response(result.error());
  return {200, to_json(*result)};
}

ControlResponse respond(const Status& status) {
  return status.ok() ? done() : error_response(status.error());
}

}  // namespace

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> parts;
  std::string part;
  for (const char c : path + "/") {
    if (c != '/') {
      part += c;
    } else if (!part.empty()) {
      parts.push_back(std::exchange(part, {}));
    }
  }
  return parts;
}

Task<ControlResponse> ControlApi::answer(ControlRequest request) {
  const Path path = split_path(request.path);
  if (path.size() < 2 || path.size() > kMaxPathParts || path[0] != "v1") {
    co_return no_such_path(request);
  }
  const std::string& what = path[1];
  if (what == "disks") {
    ControlResponse response = co_await answer_disks(request, path);
    co_return response;
  }
  if (what == "jobs") {
    ControlResponse response = co_await answer_jobs(request, path);
    co_return response;
  }
  if (what == "clients") co_return answer_clients(request, path);
  if (what == "status" && path.size() == 2 && request.method == "GET") {
    const Overview overview{daemon_(), disks_.views(), jobs_.list(), disks_.clients()};
    co_return ControlResponse{200, to_json(overview)};
  }
  if (what == "daemon" && path.size() == 3 && path[2] == "set" && request.method == "POST") {
    const Result<std::uint64_t> rate = bwlimit_from_json(request.body);
    if (!rate) co_return error_response(rate.error());
    const Status set = co_await jobs_.set_daemon_rate(*rate);
    co_return respond(set);
  }
  if (what == "stop" && path.size() == 2 && request.method == "POST") {
    request_stop_();
    co_return done();
  }
  if (what == "handover" && path.size() == 2 && request.method == "POST" && request_handover_) {
    // Without a body it is a program of before: it tells nothing of itself.
    const Result<ListenRecord> successor =
        request.body.empty() ? ListenRecord() : listen_record_from_json(request.body);
    if (!successor) co_return error_response(successor.error());
    const Status fits =
        request.body.empty() ? Status() : server_.check_successor(successor->protection);
    if (!fits) co_return error_response(fits.error());
    request_handover_();
    co_return done();
  }
  co_return no_such_path(request);
}

Task<ControlResponse> ControlApi::answer_disks(const ControlRequest& request, const Path& path) {
  if (path.size() == 2 && request.method == "GET") {
    co_return ControlResponse{200, to_json(disks_.views())};
  }
  if (path.size() == 2 && request.method == "POST") {
    Result<ServeRequest> wanted = serve_request_from_json(request.body);
    const Status named = wanted.ok() ? check_not_a_job(wanted->disk) : Status();
    if (!named.ok()) co_return error_response(named.error());
    if (!wanted) co_return error_response(wanted.error());
    ServeRequest moved = *std::move(wanted);
    const Result<DiskView> served = co_await disks_.serve_by_hand(std::move(moved));
    co_return respond(served);
  }
  if (path.size() == 4 && path[3] == "settle" && request.method == "POST") {
    const Result<std::string> id = co_await disks_.settle(path[2]);
    if (!id) co_return error_response(id.error());
    co_return respond(jobs_.find(*id));
  }
  if (path.size() >= 4 && path[3] == "bitmaps") {
    ControlResponse answered = co_await answer_bitmaps(request, path);
    co_return answered;
  }
  const bool forget = path.size() == 4 && path[3] == "record";
  if (request.method == "DELETE" && (path.size() == 3 || forget)) {
    std::string name = path[2];
    const Status detached = co_await disks_.detach(std::move(name), forget);
    co_return respond(detached);
  }
  if (path.size() == 3 && request.method == "GET") {
    const auto disk = set_.get(path[2]);
    if (!disk) co_return error_response(disk.error());
    co_return ControlResponse{200, to_json(disks_.view(**disk))};
  }
  co_return no_such_path(request);
}

Task<ControlResponse> ControlApi::answer_bitmaps(const ControlRequest& request, const Path& path) {
  if (path.size() == 4 && request.method == "GET") co_return respond(disks_.bitmaps(path[2]));
  if (path.size() == 4 && request.method == "POST") {
    const Result<BitmapSpec> spec = bitmap_from_json(request.body);
    if (!spec) co_return error_response(spec.error());
    const Status added = co_await disks_.add_bitmap(path[2], *spec);
    co_return respond(added);
  }
  if (path.size() == 5 && request.method == "DELETE") {
    const Status removed = co_await disks_.remove_bitmap(path[2], path[4]);
    co_return respond(removed);
  }
  if (path.size() == 6 && path[5] == "merge" && request.method == "POST") {
    const Result<BitmapMerge> merge = bitmap_merge_from_json(request.body);
    if (!merge) co_return error_response(merge.error());
    const Status merged = co_await disks_.merge_bitmaps(path[2], path[4], merge->sources);
    co_return respond(merged);
  }
  co_return no_such_path(request);
}

Task<ControlResponse> ControlApi::answer_jobs(const ControlRequest& request, const Path& path) {
  if (path.size() == 2 && request.method == "GET") {
    co_return ControlResponse{200, to_json(jobs_.list())};
  }
  if (path.size() == 2 && request.method == "POST") {
    Result<MigrateRequest> wanted = migrate_request_from_json(request.body);
    if (!wanted) co_return error_response(wanted.error());
    MigrateRequest moved = *std::move(wanted);
    const Result<JobStatus> started = co_await jobs_.start(std::move(moved));
    co_return respond(started);
  }
  if (path.size() == 3 && request.method == "GET") co_return respond(jobs_.find(path[2]));
  if (path.size() == 4 && path[3] == "set" && request.method == "POST") {
    const Result<JobChange> change = job_change_from_json(request.body);
    if (!change) co_return error_response(change.error());
    const Result<JobStatus> changed = co_await jobs_.change(path[2], *change);
    co_return respond(changed);
  }
  if (path.size() == 4 && request.method == "POST") {
    const ControlResponse answer = co_await answer_job_command(request, path);
    co_return answer;
  }
  co_return no_such_path(request);
}

Task<ControlResponse> ControlApi::answer_job_command(const ControlRequest& request,
                                                     const Path& path) {
  std::string job = path[2];
  const std::string& command = path[3];
  if (command == "abort") {
    const Result<JobStatus> aborted = co_await jobs_.abort(std::move(job));
    co_return respond(aborted);
  }
  if (command == "pause") {
    const Result<JobStatus> paused = co_await jobs_.pause(std::move(job));
    co_return respond(paused);
  }
  if (command == "resume") {
    const Result<JobStatus> resumed = co_await jobs_.resume(std::move(job));
    co_return respond(resumed);
  }
  co_return no_such_path(request);
}

ControlResponse ControlApi::answer_clients(const ControlRequest& request, const Path& path) {
  if (path.size() == 2 && request.method == "GET") return {200, to_json(disks_.clients())};
  if (path.size() == 4 && path[3] == "disconnect" && request.method == "POST") {
    const std::string& text = path[2];
    std::uint64_t id = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (failed != std::errc() || end != text.data() + text.size()) {
      return error_response(Error(
          ErrorCode::kInvalid, "'" + text + "' is no client's number: see 'blockmig ls clients'"));
    }
    const Status cut = server_.disconnect(id);
    if (!cut) {
      return error_response(cut.error().with_context("cannot disconnect client " + text));
    }
    return done();
  }
  return no_such_path(request);
}

}  // namespace blockmig
