// SPDX-License-Identifier: Apache-2.0
// join_all(): a scope's end as a task, for run_task().
#pragma once

#include "blockmig/io/task_scope.h"

namespace blockmig {

inline Task<void> join_all(TaskScope& scope) { co_await scope.join(); }

}  // namespace blockmig
