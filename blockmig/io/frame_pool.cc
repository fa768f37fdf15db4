// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/frame_pool.h"

#include <array>
#include <new>

namespace blockmig {
namespace {

constexpr std::size_t kClassBytes = 64;
constexpr std::size_t kClasses = 32;            // frames up to 2 KiB are pooled
constexpr std::size_t kMaxFreePerClass = 1024;  // memory kept by an idle thread is bounded

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPooled = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kPooled = false;
#else
constexpr bool kPooled = true;
#endif
#else
constexpr bool kPooled = true;
#endif

struct FreeFrame {
  FreeFrame* next;
};

struct Pool {
  std::array<FreeFrame*, kClasses> heads{};
  std::array<std::size_t, kClasses> counts{};

  ~Pool() {
    for (FreeFrame*& head : heads) {
      while (head != nullptr) {
        FreeFrame* next = head->next;
        ::operator delete(head);
        head = next;
      }
    }
    closed = true;
  }
  bool closed = false;  // frames freed by destructors that run after the pool's
};

thread_local Pool pool;

constexpr std::size_t class_of(std::size_t bytes) {
  return (bytes + kClassBytes - 1) / kClassBytes;
}

}  // namespace

void* allocate_frame(std::size_t bytes) {
  const std::size_t size_class = class_of(bytes);
  if (kPooled && size_class < kClasses) {
    FreeFrame*& head = pool.heads[size_class];
    if (head != nullptr) {
      FreeFrame* frame = head;
      head = frame->next;
      --pool.counts[size_class];
      return frame;
    }
    return ::operator new(size_class* kClassBytes);
  }
  return ::operator new(bytes);
}

void free_frame(void* frame, std::size_t bytes) noexcept {
  const std::size_t size_class = class_of(bytes);
  if (kPooled && size_class < kClasses && !pool.closed &&
      pool.counts[size_class] < kMaxFreePerClass) {
    pool.heads[size_class] = new (frame) FreeFrame{pool.heads[size_class]};
    ++pool.counts[size_class];
    return;
  }
  ::operator delete(frame);
}

}  // namespace blockmig
