// SPDX-License-Identifier: Apache-2.0
// BLOCK_STATUS: one chunk per selected context, or per context that the request's payload names.
#include <algorithm>

#include "nbdserver/block_status.h"
#include "nbdserver/transmission.h"
#include "nbdserver/wire_error.h"

namespace blockmig::nbd {
namespace {

/// The contexts that a payload asks for; nothing if it names one twice or one that was not
/// selected.
std::optional<std::vector<const MetaContext*>> filter_contexts(
    const std::vector<MetaContext>& contexts, const std::vector<std::uint32_t>& ids) {
  std::vector<const MetaContext*> chosen;
  for (const std::uint32_t id : ids) {
    const auto found = std::find_if(contexts.begin(), contexts.end(),
                                    [&](const MetaContext& each) { return each.id == id; });
    if (found == contexts.end()) return std::nullopt;
    if (std::find(chosen.begin(), chosen.end(), &*found) != chosen.end()) return std::nullopt;
    chosen.push_back(&*found);
  }
  return chosen;
}

/// What the reply may speak about. The request's length is a hint: it is brought to whole blocks.
StatusRange status_range(const Request& request, std::uint64_t length, const ExportFacts& facts) {
  StatusRange range;
  range.offset = request.offset;
  range.minimum_block = facts.minimum_block;
  range.one = request.has(kCmdFlagReqOne);
  const std::uint64_t whole = align_down(length, facts.minimum_block);
  const std::uint64_t to_end = facts.size_bytes - request.offset;
  range.length = whole != 0 ? whole : std::min<std::uint64_t>(facts.minimum_block, to_end);
  return range;
}

}  // namespace

Task<void> Transmission::block_status(Request request, BufferRef keep, ConstBytes payload) {
  std::vector<const MetaContext*> chosen;
  std::uint64_t length = request.length;
  if (request.has(kCmdFlagPayloadLen)) {
    const auto filter = decode_status_filter(payload);
    keep = BufferRef();
    auto filtered = filter ? filter_contexts(contexts_, filter->context_ids) : std::nullopt;
    if (!filtered) {
      fail(request, Error(ErrorCode::kInvalid, "the payload names no valid set of contexts"));
      co_return;
    }
    length = filter->effect_length;
    const Verdict verdict = judge_status_range(request, length, rules_);
    if (verdict.action != Verdict::Action::kServe) {
      Request shown = request;
      shown.length = length;
      answer_error(request, verdict.error, refusal_text(verdict.refusal, shown, rules_), nullptr,
                   charge_of(request));
      co_return;
    }
    chosen = std::move(*filtered);
  } else {
    for (const MetaContext& context : contexts_) chosen.push_back(&context);
  }

  // All answers first, then all chunks: an error must come instead of the chunks, not among them.
  const StatusRange range = status_range(request, length, rules_.facts);
  std::vector<std::vector<StatusExtent>> answers(chosen.size());
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const Status known = co_await status_of_context(*chosen[i], range, answers[i]);
    if (!known.ok()) {
      fail(request, known.error());
      co_return;
    }
  }
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const bool done = i + 1 == chosen.size();
    const std::size_t bytes = block_status_bytes(rules_.style, answers[i].size());
    if (bytes <= kMaxSmallReadBytes) {
      ReplySlot slot = replies_.reserve(bytes);
      encode_block_status(slot.data(), request, rules_.style, chosen[i]->id, answers[i], done);
      replies_.commit(std::move(slot), bytes);
    } else {
      BufferRef buffer = pool_.take(bytes);
      encode_block_status(buffer.data(), request, rules_.style, chosen[i]->id, answers[i], done);
      const ConstBytes chunk(buffer.data(), bytes);
      replies_.commit_buffer(std::move(buffer), chunk);
    }
  }
  finish(request);
}

Task<Status> Transmission::status_of_context(const MetaContext& context, StatusRange range,
                                             std::vector<StatusExtent>& answer) {
  const ByteRange asked{range.offset, range.length};
  const std::size_t max_runs = range.one ? 1 : BlockDevice::kMaxExtents;
  switch (context.kind) {
    case MetaContext::Kind::kAllocation:
    case MetaContext::Kind::kAllocationDepth: {
      const auto extents = co_await device_.extents(range.offset, range.length);
      if (!extents.ok()) co_return extents.error();
      answer = context.kind == MetaContext::Kind::kAllocation ? allocation_status(range, *extents)
                                                              : depth_status(range, *extents);
      break;
    }
    case MetaContext::Kind::kDirtyBitmap: {
      const auto runs = co_await lane_.bitmap_runs(context.bitmap, asked, max_runs);
      if (!runs.ok()) co_return runs.error();
      answer = dirty_status(range, *runs);
      break;
    }
    case MetaContext::Kind::kHydration: {
      const auto runs = co_await lane_.absent_runs(asked, max_runs);
      if (!runs.ok()) co_return runs.error();
      answer = dirty_status(range, *runs);
      break;
    }
  }
  if (answer.empty()) co_return Error(ErrorCode::kIo, context.name + " is not known here");
  co_return Status();
}

}  // namespace blockmig::nbd
