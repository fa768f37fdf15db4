// SPDX-License-Identifier: Apache-2.0
// PendingMarks: marks that belong to a bitmap and have not reached it yet, because another thread
// made them. Before a bitmap answers anything it has them delivered, so that its answers stay
// exact: whatever was marked before the question, on any thread, is in the answer.
// Thread rule: the bitmap's thread.
#pragma once

namespace blockmig {

class PendingMarks {
 public:
  /// Marks what is pending in every bitmap that it belongs to. Cheap when there is nothing.
  virtual void deliver() = 0;

 protected:
  ~PendingMarks() = default;
};

}  // namespace blockmig
