// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/nbd_connect.h"

#include <libnbd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <string_view>

#include "blockmig/base/bytes.h"
#include "blockmig/base/uri.h"
#include "blockmig/block/nbd_tls.h"

namespace blockmig {
namespace {

constexpr std::uint32_t kMaxPayloadBytes = 32u << 20;

/// Without libnbd's "nbd_function: " in front, which says nothing to a user.
std::string last_text() {
  const char* error = nbd_get_error();
  if (error == nullptr) return "unknown error";
  std::string_view text = error;
  const std::size_t colon = text.find(": ");
  const bool is_function = text.starts_with("nbd_") && colon < text.find(' ');
  if (is_function) text.remove_prefix(colon + 2);
  return std::string(text);
}

/// The reason of an attempt that failed before the server was asked for the export.
Error connect_error(const std::string& uri) {
  const int os_errno = nbd_get_errno();
  const bool uri_is_bad = os_errno == EINVAL;
  return Error(uri_is_bad ? ErrorCode::kInvalid : ErrorCode::kDisconnected,
               uri + ": " + last_text(), os_errno);
}

int milliseconds_until(TimePoint deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(
      deadline - TimePoint(std::chrono::steady_clock::now()));
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
}

std::uint64_t block_size(nbd_handle* handle, int which, std::uint64_t otherwise) {
  const std::int64_t value = nbd_get_block_size(handle, which);
  return value <= 0 ? otherwise : static_cast<std::uint64_t>(value);
}

}  // namespace

void CloseNbdHandle::operator()(nbd_handle* handle) const { nbd_close(handle); }

namespace {

/// Polls until `arrived(handle)`.
template <typename Arrived>
Status poll_until(nbd_handle* handle, const std::string& uri, TimePoint deadline, Arrived arrived) {
  while (!arrived(handle)) {
    if (nbd_aio_is_dead(handle) || nbd_aio_is_closed(handle)) {
      return Error(ErrorCode::kDisconnected, uri + ": the server closed during the handshake");
    }
    const int wait_ms = milliseconds_until(deadline);
    const int polled = wait_ms == 0 ? 0 : nbd_poll(handle, wait_ms);
    if (polled == 0 && milliseconds_until(deadline) == 0) {
      return Error(ErrorCode::kTimedOut, uri + ": no answer from the server", ETIMEDOUT);
    }
    if (polled < 0) return connect_error(uri);
  }
  return {};
}

/// Asks for the export (NBD_OPT_GO); what the server refuses here is about the export.
Status enter_export(nbd_handle* handle, const std::string& uri, TimePoint deadline) {
  struct Answer {
    bool done = false;
    int os_errno = 0;
    std::string text;
  } answer;
  nbd_completion_callback completion{};
  completion.user_data = &answer;
  completion.callback = [](void* user, int* error) {
    auto& to = *static_cast<Answer*>(user);
    to.done = true;
    to.os_errno = *error;
    if (*error != 0) to.text = last_text();
    return 1;
  };
  if (nbd_aio_opt_go(handle, completion) != 0) return connect_error(uri);
  const Status polled = poll_until(handle, uri, deadline, [&](nbd_handle*) { return answer.done; });
  if (!polled && !answer.done) return polled;
  if (answer.os_errno == 0) return poll_until(handle, uri, deadline, nbd_aio_is_ready);
  const bool unknown = answer.os_errno == ENOENT;  // NBD_REP_ERR_UNKNOWN
  return Error(unknown ? ErrorCode::kNotFound : ErrorCode::kDisconnected, uri + ": " + answer.text,
               answer.os_errno);
}

}  // namespace

Result<NbdHandle> connect_nbd(const std::string& uri, TimePoint deadline) {
  NbdHandle handle(nbd_create());
  if (!handle) return Error(ErrorCode::kNoMemory, uri + ": " + last_text());
  const Result<StoreUri> store = parse_store_uri(uri);
  if (!store) return store.error();
  const Status verified = check_nbd_tls(*store, nbd_get_version(handle.get()));
  if (!verified) return verified.error();
  // The URI comes from the user, who may name files of keys; the buffers of reads are checked to be
  // covered, so libnbd need not clear them.
  if (nbd_add_meta_context(handle.get(), LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 ||
      nbd_set_uri_allow_local_file(handle.get(), true) != 0 ||
      nbd_set_pread_initialize(handle.get(), false) != 0 ||
      nbd_set_opt_mode(handle.get(), true) != 0) {
    return connect_error(uri);
  }
  if (nbd_aio_connect_uri(handle.get(), uri.c_str()) != 0) return connect_error(uri);
  const Status connected = poll_until(handle.get(), uri, deadline, [](nbd_handle* h) {
    return nbd_aio_is_negotiating(h) != 0 || nbd_aio_is_ready(h) != 0;
  });
  if (!connected) return connected.error();
  if (nbd_aio_is_ready(handle.get())) return handle;  // an oldstyle server: nothing to ask
  const Status entered = enter_export(handle.get(), uri, deadline);
  if (!entered) return entered.error();
  return handle;
}

Result<NbdFacts> ask_nbd_facts(nbd_handle* handle, const std::string& uri) {
  const std::int64_t size = nbd_get_size(handle);
  if (size < 0) return Error(ErrorCode::kProtocol, uri + ": " + last_text());
  NbdFacts facts;
  facts.size_bytes = static_cast<std::uint64_t>(size);
  const std::uint64_t minimum = block_size(handle, LIBNBD_SIZE_MINIMUM, 1);
  const std::uint64_t preferred = block_size(handle, LIBNBD_SIZE_PREFERRED, 4096);
  const std::uint64_t maximum = block_size(handle, LIBNBD_SIZE_MAXIMUM, kMaxPayloadBytes);
  if (!std::has_single_bit(minimum) || minimum > 64 * kKiB || maximum < minimum ||
      facts.size_bytes % minimum != 0) {
    return Error(ErrorCode::kProtocol, uri + ": the server's block sizes make no sense (minimum " +
                                           std::to_string(minimum) + ", maximum " +
                                           std::to_string(maximum) + ", export of " +
                                           std::to_string(facts.size_bytes) + " bytes)");
  }
  facts.min_block_bytes = static_cast<std::uint32_t>(minimum);
  facts.preferred_block_bytes = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
      preferred, std::max<std::uint64_t>(minimum, 512), kMaxPayloadBytes));
  facts.max_payload_bytes = static_cast<std::uint32_t>(
      align_down(std::min<std::uint64_t>(maximum, kMaxPayloadBytes), minimum));
  facts.read_only = nbd_is_read_only(handle) == 1;
  facts.can_flush = nbd_can_flush(handle) == 1;
  facts.can_fua = nbd_can_fua(handle) == 1;
  facts.can_trim = nbd_can_trim(handle) == 1;
  facts.can_zero = nbd_can_zero(handle) == 1;
  facts.can_fast_zero = nbd_can_fast_zero(handle) == 1;
  facts.can_multi_conn = nbd_can_multi_conn(handle) == 1;
  facts.has_allocation = nbd_can_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  return facts;
}

}  // namespace blockmig
