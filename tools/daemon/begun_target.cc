// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/begun_target.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

#include "blockmig/io/durable_file.h"
#include "blockmig/io/offload.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {
namespace {

constexpr const char* kTopic = "move-target";

/// What the notes of this move begin with; the folder follows.
std::string beginning_of(const TargetPlan& plan) {
  return std::to_string(plan.epoch) + " " + plan.target.text + "\n";
}

/// Empty: it has none, or one of another move.
Task<Result<std::string>> load_note(const TargetPlan& plan) {
  std::string text;
  if (plan.journal == nullptr) co_return text;
  const auto notes = co_await plan.journal->load_notes(kTopic);
  if (!notes.ok()) co_return notes.error();
  for (const NoteRecord& note : *notes) {
    if (note.name == plan.disk && note.text.starts_with(beginning_of(plan))) text = note.text;
  }
  co_return text;
}

Task<std::string> make_text(IoLoop& loop, const TargetPlan& plan) {
  const std::string folder = parent_folder(plan.target.path);
  std::string identity = co_await offload(loop, [&folder] { return identity_of(folder); });
  co_return beginning_of(plan) + identity;
}

}  // namespace

std::string identity_of(const std::string& path) {
  struct statx facts {};
  if (statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_BTIME, &facts) != 0) return "unknown";
  return "inode " + std::to_string(facts.stx_ino) + " of " +
         std::to_string(facts.stx_btime.tv_sec) + "." + std::to_string(facts.stx_btime.tv_nsec);
}

NoteRecord begun_target_note(const std::string& disk, std::string text) {
  return {kTopic, disk, std::move(text)};
}

Error is_away(const TargetPlan& plan) {
  return Error(ErrorCode::kNotFound,
               "the target " + plan.target.path +
                   ", which was begun already, is not there, nor the folder that it was in (is its "
                   "filesystem mounted?): the move goes on when it is; where it is gone for good, "
                   "abort the move and start it anew");
}

Task<Status> note_begun_target(IoLoop& loop, const TargetPlan& plan) {
  if (plan.journal == nullptr) co_return Status();
  std::string text = co_await make_text(loop, plan);
  JournalBatch batch;
  batch.notes.push_back(begun_target_note(plan.disk, std::move(text)));
  const Status saved = co_await plan.journal->commit(batch);
  co_return saved;
}

Task<void> forget_begun_target(const TargetPlan& plan) {
  // The next move may have one by now.
  const auto mine = co_await load_note(plan);
  if (!mine.ok() || mine->empty()) co_return;
  JournalBatch batch;
  batch.removed_notes.push_back(begun_target_note(plan.disk));
  const Status removed = co_await plan.journal->commit(batch);
  static_cast<void>(removed);
}

Task<Result<bool>> is_begun_elsewhere(IoLoop& loop, const TargetPlan& plan) {
  const auto noted = co_await load_note(plan);
  if (!noted.ok()) co_return noted.error();
  if (noted->empty()) co_return false;
  const std::string now = co_await make_text(loop, plan);
  co_return now != *noted;
}

}  // namespace blockmig
