// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/nbd_connect.h"

#include <libnbd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <utility>

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
    // The URI is fine, though libnbd may say EINVAL, where a server hangs up at once.
    if (polled < 0)
      return Error(ErrorCode::kDisconnected, uri + ": " + last_text(), nbd_get_errno());
  }
  return {};
}

/// What came of an option; outlives the handle's interest in it.
struct OptionAnswer {
  bool done = false;
  int os_errno = 0;
  std::string text;
};

nbd_completion_callback note_in(OptionAnswer& answer) {
  nbd_completion_callback completion{};
  completion.user_data = &answer;
  completion.callback = [](void* user, int* error) {
    auto& to = *static_cast<OptionAnswer*>(user);
    to.done = true;
    to.os_errno = *error;
    if (*error != 0) to.text = last_text();
    return 1;
  };
  return completion;
}

/// Asks for the export (NBD_OPT_GO); what the server refuses here is about the export.
Status enter_export(nbd_handle* handle, const std::string& uri, TimePoint deadline) {
  OptionAnswer answer;
  if (nbd_aio_opt_go(handle, note_in(answer)) != 0) return connect_error(uri);
  const Status polled = poll_until(handle, uri, deadline, [&](nbd_handle*) { return answer.done; });
  if (!polled && !answer.done) return polled;
  if (answer.os_errno == 0) return poll_until(handle, uri, deadline, nbd_aio_is_ready);
  const bool unknown = answer.os_errno == ENOENT;  // NBD_REP_ERR_UNKNOWN
  return Error(unknown ? ErrorCode::kNotFound : ErrorCode::kDisconnected, uri + ": " + answer.text,
               answer.os_errno);
}

/// Asks what the export is (NBD_OPT_LIST_META_CONTEXT). A server that refuses to answer has no more
/// to say about it than one that knows nothing of the question.
Status ask_identities(nbd_handle* handle, const std::string& uri, TimePoint deadline,
                      Identities& identities) {
  const std::string query(kIdentityQuery);
  if (nbd_add_meta_context(handle, query.c_str()) != 0) return connect_error(uri);
  nbd_context_callback heard{};
  heard.user_data = &identities;
  heard.callback = [](void* user, const char* name) {
    std::string_view text(name);
    if (!text.starts_with(kIdentityQuery)) return 0;
    text.remove_prefix(kIdentityQuery.size());
    add_identity(*static_cast<Identities*>(user), text);
    return 0;
  };
  OptionAnswer answer;
  Status polled;
  // It is not sent at all without structured replies.
  if (nbd_aio_opt_list_meta_context(handle, heard, note_in(answer)) == 0) {
    polled = poll_until(handle, uri, deadline, [&](nbd_handle* h) {
      return answer.done && nbd_aio_is_negotiating(h) != 0;
    });
  }
  if (!polled || answer.os_errno != 0) identities.clear();
  if (polled && nbd_clear_meta_contexts(handle) != 0) return connect_error(uri);
  return polled;
}

/// Until the options, or ready where an oldstyle server has none.
Result<NbdHandle> begin_connecting(const std::string& uri, TimePoint deadline) {
  NbdHandle handle(nbd_create());
  if (!handle) return Error(ErrorCode::kNoMemory, uri + ": " + last_text());
  const Result<StoreUri> store = parse_store_uri(uri);
  if (!store) return store.error();
  const Status verified = check_nbd_tls(*store, nbd_get_version(handle.get()));
  if (!verified) return verified.error();
  // The URI comes from the user, who may name files of keys; the buffers of reads are checked to be
  // covered, so libnbd need not clear them.
  if (nbd_set_uri_allow_local_file(handle.get(), true) != 0 ||
      nbd_set_pread_initialize(handle.get(), false) != 0 ||
      nbd_set_opt_mode(handle.get(), true) != 0) {
    return connect_error(uri);
  }
  if (nbd_aio_connect_uri(handle.get(), uri.c_str()) != 0) return connect_error(uri);
  const Status connected = poll_until(handle.get(), uri, deadline, [](nbd_handle* h) {
    return nbd_aio_is_negotiating(h) != 0 || nbd_aio_is_ready(h) != 0;
  });
  if (!connected) return connected.error();
  return handle;
}

/// Ready. The server is asked what the export is, unless `identities` is null.
Result<NbdHandle> connect_one(const std::string& uri, TimePoint deadline, Identities* identities) {
  Result<NbdHandle> handle = begin_connecting(uri, deadline);
  if (!handle) return handle;
  if (nbd_aio_is_ready(handle->get())) return handle;  // an oldstyle server: nothing to ask
  if (identities != nullptr) {
    const Status asked = ask_identities(handle->get(), uri, deadline, *identities);
    const bool hung_up = !asked && asked.error().code() == ErrorCode::kDisconnected;
    if (!asked && !hung_up) return asked.error();
    // On a question that it did not know; any other reason is met again.
    if (hung_up) handle = begin_connecting(uri, deadline);
    if (!handle) return handle;
    if (nbd_aio_is_ready(handle->get())) return handle;
  }
  if (nbd_add_meta_context(handle->get(), LIBNBD_CONTEXT_BASE_ALLOCATION) != 0) {
    return connect_error(uri);
  }
  const Status entered = enter_export(handle->get(), uri, deadline);
  if (!entered) return entered.error();
  return handle;
}

/// kProtocol: the server contradicts itself (a size that is no multiple of its block size).
Result<NbdFacts> ask_facts(nbd_handle* handle, const std::string& uri) {
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

}  // namespace

/// Further connections are a bonus: one that fails is done without.
Result<NbdOpened> connect_nbd(const std::string& uri, const NbdDeviceOptions& options) {
  const TimePoint deadline = TimePoint(std::chrono::steady_clock::now()) + options.connect_timeout;
  NbdOpened opened;
  auto first = connect_one(uri, deadline, &opened.identities);
  if (!first) return first.error();
  const auto facts = ask_facts(first->get(), uri);
  if (!facts) return facts.error();
  opened.facts = *facts;
  opened.handles.push_back(std::move(*first));
  if (facts->read_only && !options.read_only) {
    return Error(ErrorCode::kReadOnly, uri + ": the server exports it read-only");
  }
  while (facts->can_multi_conn && opened.handles.size() < options.connections) {
    auto next = connect_one(uri, deadline, nullptr);
    if (!next) break;
    const auto same = ask_facts(next->get(), uri);
    if (!same || *same != *facts) break;
    opened.handles.push_back(std::move(*next));
  }
  return opened;
}

Result<Identities> ask_nbd(const std::string& uri, TimePoint deadline) {
  const Result<NbdHandle> handle = begin_connecting(uri, deadline);
  if (!handle) return handle.error();
  Identities identities;
  if (nbd_aio_is_ready(handle->get())) return identities;
  const Status asked = ask_identities(handle->get(), uri, deadline, identities);
  if (!asked) return asked.error();
  nbd_aio_opt_abort(handle->get());  // a goodbye; whether it arrives does not matter
  return identities;
}

}  // namespace blockmig
