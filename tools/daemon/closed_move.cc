// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/closed_move.h"

#include <utility>

namespace blockmig {
namespace {

constexpr const char* kTopic = "move-closed";
constexpr char kBetween = '\n';  // in no identity
const std::string kServed = "served";

}  // namespace

NoteRecord closed_move_note(const std::string& disk, const ClosedMove& move) {
  return {kTopic, disk, (move.served ? kServed : move.source) + kBetween + move.target};
}

Task<Status> save_closed_move(Journal& journal, std::string disk, ClosedMove move) {
  JournalBatch batch;
  batch.notes.push_back(closed_move_note(disk, move));
  const Status saved = co_await journal.commit(batch);
  co_return saved;
}

Task<Result<std::optional<ClosedMove>>> load_closed_move(Journal& journal, std::string disk) {
  const std::string topic = kTopic;
  const auto note = co_await journal.load_note(topic, disk);
  if (!note.ok()) co_return note.error();
  if (!note->has_value()) co_return std::optional<ClosedMove>();
  const std::string& text = (*note)->text;
  const std::size_t middle = text.find(kBetween);
  if (middle == std::string::npos) {
    co_return Error(ErrorCode::kProtocol,
                    "journal: the note of disk '" + disk + "' about its suspended move is cut");
  }
  const std::string source = text.substr(0, middle);
  co_return ClosedMove{source == kServed, source, text.substr(middle + 1)};
}

}  // namespace blockmig
