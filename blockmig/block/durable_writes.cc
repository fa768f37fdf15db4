// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/durable_writes.h"

namespace blockmig {
namespace {

/// Nothing has been tried.
bool is_refusal(ErrorCode code) {
  return code == ErrorCode::kNotSupported || code == ErrorCode::kReadOnly ||
         code == ErrorCode::kInvalid;
}

}  // namespace

class DurableWrites::UnderWay final {
 public:
  explicit UnderWay(DurableWrites& writes) : writes_(writes), number_(writes.next_++) {
    writes_.under_way_.insert(number_);
  }
  ~UnderWay() {
    const bool oldest = !writes_.any_older_than(number_);
    writes_.under_way_.erase(number_);
    if (oldest) writes_.ended_.pulse();
  }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;

 private:
  DurableWrites& writes_;
  const std::uint64_t number_;
};

Task<Status> DurableWrites::write(Transfer transfer) {
  const std::uint64_t age = error_.age();
  Status verdict = error_.verdict(age);
  if (!verdict) co_return verdict;
  {
    const UnderWay under_way(*this);
    const Status done = co_await attempt(transfer);
    if (!done) co_return done;
  }
  const std::uint64_t end = next_;
  verdict = error_.verdict(age);
  while (verdict.ok() && any_older_than(end)) {
    co_await ended_.wait();
    verdict = error_.verdict(age);
  }
  co_return verdict;
}

/// A write whose sync fails has taken the kernel's report with it, although other writes may be
/// lost. Not so one that was refused, or failed itself, for want of space, before any sync.
Task<Status> DurableWrites::attempt(Transfer transfer) {
  const Status done = co_await transfer(true);
  if (done || is_refusal(done.error().code())) co_return done;
  if (done.error().code() == ErrorCode::kNoSpace) {
    const Status again = co_await transfer(false);
    if (!again && again.error().code() == ErrorCode::kNoSpace) co_return done;
  }
  error_.note(done.error());
  co_return done;
}

}  // namespace blockmig
