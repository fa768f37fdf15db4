// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/fault_guard.h"

#include <pthread.h>
#include <ucontext.h>

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <mutex>

#include "blockmig/base/check.h"
#include "blockmig/block/stream_copy.h"

namespace blockmig {
namespace {

struct Guard {
  const std::byte* begin;
  const std::byte* end;
  sigjmp_buf back;
};

/// The copy that this thread is making.
thread_local Guard* current_guard = nullptr;
/// Who handled SIGBUS before us. Written once, before the handler is in place.
struct sigaction previous_action;

bool is_guarded(const siginfo_t* info) {
  // Not positive: sent by a process, not raised by an access.
  if (current_guard == nullptr || info->si_code <= 0) return false;
  const auto* const address = static_cast<const std::byte*>(info->si_addr);
  return address >= current_guard->begin && address < current_guard->end;
}

void pass_on(int number, siginfo_t* info, void* context) {
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(number, info, context);
    return;
  }
  if (previous_action.sa_handler == SIG_IGN && info->si_code <= 0) return;
  if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(number);
    return;
  }
  // The default. An access is repeated when we return, and ends the process then; a signal that
  // somebody sent is not, so it is sent again.
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(number, &standard, nullptr);
  if (info->si_code <= 0) ::raise(number);
}

void on_bus_error(int number, siginfo_t* info, void* context) {
  if (is_guarded(info)) {
    // The jump leaves the handler without the return that would do this.
    ::pthread_sigmask(SIG_SETMASK, &static_cast<const ucontext_t*>(context)->uc_sigmask, nullptr);
    siglongjmp(current_guard->back, 1);
  }
  pass_on(number, info, context);
}

}  // namespace

void install_fault_guard() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    BM_CHECK(::sigaction(SIGBUS, nullptr, &previous_action) == 0);
    BM_CHECK(::sigaction(SIGBUS, &action, nullptr) == 0);
  });
}

// A function of its own, with nothing to destroy and nothing changed between the jump's two ends.
__attribute__((noinline)) bool copy_guarded(MutableBytes into, ConstBytes from,
                                            ConstBytes mapping) {
  if (from.empty()) return true;
  Guard guard;
  guard.begin = mapping.data();
  guard.end = mapping.data() + mapping.size();
  // Without the signal mask: saving it would be a system call for every copy.
  if (sigsetjmp(guard.back, 0) != 0) {
    current_guard = nullptr;
    return false;
  }
  current_guard = &guard;
  // The compiler must not move the copy past the guard.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (into.data() >= guard.begin && into.data() < guard.end) {
    stream_copy(into, from);
  } else {
    std::memcpy(into.data(), from.data(), from.size());
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  current_guard = nullptr;
  return true;
}

}  // namespace blockmig
