// SPDX-License-Identifier: Apache-2.0
// Handshake: the fixed-newstyle negotiation, as a machine without I/O: bytes in, bytes and a
// decision out.
//
//   kClientFlags ──▶ kOption ◀──▶ kSkipping          kOption ──▶ kTransmission   EXPORT_NAME, GO
//        │              ▲  │                            │
//        │              ▼  │                            ├───────▶ kStartTls      STARTTLS
//        │           kListing                          └───────▶ kClosed        ABORT
//        └──▶ kClosed (unknown flags)                any state ──▶ kClosed       bad magic, limits
//
// Lifecycle: one object per negotiation. STARTTLS leads to kStartTls: send output(), do the TLS
// handshake, and go on with a new object made from carried(), so that nothing agreed on before TLS
// survives it (CVE-2021-3716). Bytes behind STARTTLS were not protected and nobody honest sends
// them, since the client waits for the answer: they close the connection instead of being thrown
// away, so that an attack shows. After kTransmission take result() and destroy it.
// Use: send output(), clear_output(); feed() what arrived; repeat. One feed() handles at most one
// option, so its output is bounded: LIST is produced piece by piece. Peer errors are answered or
// close; nothing here fails otherwise. Thread rule: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockmig/base/bytes.h"
#include "nbdserver/export.h"
#include "nbdserver/export_facts.h"
#include "nbdserver/meta_context.h"
#include "nbdserver/request_rules.h"
#include "nbdserver/server.h"
#include "nbdserver/server_stats.h"
#include "nbdserver/wire.h"

namespace blockmig::nbd {

/// What a finished negotiation agreed on.
struct Negotiated {
  std::shared_ptr<Export> disk;
  TransmissionRules rules;
  std::vector<MetaContext> contexts;  ///< selected for this export; empty if none
};

class Handshake final {
 public:
  enum class State : std::uint8_t {
    kClientFlags,
    kOption,
    kSkipping,  ///< over the payload of an option that is not looked at
    kListing,   ///< LIST goes on with the next feed()
    kTransmission,
    kStartTls,
    kClosed,
  };
  /// What TLS has to do with this negotiation ("TLS").
  enum class Tls : std::uint8_t {
    kOff,
    kOffered,
    kRequired,         ///< nothing but STARTTLS and ABORT
    kRequiredButList,  ///< and LIST
    kInside,           ///< it is in force
  };
  /// What outlives STARTTLS: the client flags, which are sent once, and what counts against limits.
  struct Carried {
    bool fixed_newstyle = false;
    bool no_zeroes = false;
    std::uint32_t options_seen = 0;
    std::uint64_t bytes_seen = 0;
    std::uint64_t bytes_skipped = 0;
    std::uint64_t looks = 0;
    std::uint64_t looks_granted = 0;
  };

  /// The data of an option that we know: two strings of the longest kind with their framing.
  static constexpr std::size_t kMaxOptionBytes = 2 * kMaxStringBytes + 256;
  /// What the caller must be able to hold for feed().
  static constexpr std::size_t kMaxInputBytes = kOptionHeaderBytes + kMaxOptionBytes;
  /// A client that lists exports looks at each: clients send up to three options for that. As many
  /// of them as LIST has shown exports for do not count, where they have found one.
  static constexpr std::uint32_t kLooksPerExport = 4;

  /// The greeting is in output(). `directory` outlives the object.
  Handshake(ExportDirectory& directory, const NbdServerLimits& limits, Tls tls = Tls::kOff);
  /// Inside TLS: goes on with the options.
  Handshake(ExportDirectory& directory, const NbdServerLimits& limits, const Carried& carried);
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;

  /// Takes what it can use off the front of `input` and returns how many bytes that was. 0 without
  /// new output: more input is needed.
  std::size_t feed(ConstBytes input);
  /// What `input` begins with asks for an export that is late: later feed() may find it.
  bool asks_for_late(ConstBytes input) const;
  /// From now on every option but ABORT is refused with ERR_SHUTDOWN.
  void begin_shutdown() { shutting_down_ = true; }

  State state() const { return state_; }
  /// Why a client that is gone now was not served; none where it left in order (ABORT, or the end
  /// of the stream between two options after the first one) and no refusal was its last answer.
  std::optional<NbdHandshakeFailure> failure() const;
  ConstBytes output() const { return output_; }
  void clear_output() { output_.clear(); }
  Carried carried() const {
    return {fixed_newstyle_, no_zeroes_, options_seen_, bytes_seen_,
            bytes_skipped_,  looks_,     looks_granted_};
  }
  /// Options that did not count (kLooksPerExport): who is answered needs its time too.
  std::uint64_t looks() const { return looks_; }
  /// In state kTransmission, once.
  Negotiated take_result();

 private:
  std::size_t feed_client_flags(ConstBytes input);
  std::size_t feed_option(ConstBytes input);
  std::size_t feed_skipped(ConstBytes input);
  /// Counts an option. False: it is one too many (I16), and was the last one.
  bool count(Option option, std::size_t bytes);
  void dispatch(Option option, ConstBytes data);
  void start_skipping(Option option, std::uint32_t length);
  void close(NbdHandshakeFailure failure = NbdHandshakeFailure::kProtocol) {
    state_ = State::kClosed;
    failure_ = failure;
  }

  // One per option; each answers with exactly one final reply, or closes.
  void on_export_name(ConstBytes data);
  void on_abort();
  void on_list(ConstBytes data);
  void on_starttls(ConstBytes data);
  void on_info_or_go(Option option, ConstBytes data);
  void on_structured_reply(ConstBytes data);
  void on_extended_headers(ConstBytes data);
  void on_list_meta_context(ConstBytes data);
  void on_set_meta_context(ConstBytes data);

  void continue_listing();
  void answer_meta_context(Option option, ConstBytes data);
  void reply_meta_context(Option option, std::uint32_t id, std::string_view name);
  void enter_transmission(std::shared_ptr<Export> disk, const std::string& name);

  void reply(Option option, OptionReply type, ConstBytes data);
  void reply_error(Option option, OptionReply type, std::string_view text);
  void reply_info_export(Option option, const ExportFacts& facts, const std::string& name);
  void reply_info_text(Option option, InfoType type, std::string_view text);
  void reply_info_block_size(Option option, const ExportFacts& facts);
  bool contexts_apply_to(const std::string& name) const;
  bool is_too_long(std::size_t name_bytes) const { return name_bytes > limits_.max_name_bytes; }
  /// True if the option has to wait until TLS is in force.
  bool needs_tls(Option option) const;
  /// Of an export that is late it says that, which is nobody's failure.
  void reply_unknown(Option option, const std::string& name);

  ExportDirectory& directory_;
  const NbdServerLimits limits_;
  const Tls tls_;
  State state_ = State::kClientFlags;
  std::vector<std::byte> output_;
  std::uint32_t options_seen_ = 0;
  std::uint64_t bytes_seen_ = 0;     ///< headers and data of known options
  std::uint64_t bytes_skipped_ = 0;  ///< payloads not looked at
  std::uint64_t skip_left_ = 0;
  std::uint64_t looks_ = 0;
  std::uint64_t looks_granted_ = 0;  ///< by the longest list
  bool found_ = false;               ///< the option that is being handled has looked at an export
  bool has_bytes_behind_ = false;    ///< more had arrived than the option that is being handled
  bool shutting_down_ = false;
  std::optional<NbdHandshakeFailure> failure_;  ///< of the last option, or why we closed

  // What the client has negotiated so far.
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
  HeaderStyle style_ = HeaderStyle::kSimple;
  std::string context_export_;  ///< the name that SET_META_CONTEXT used
  std::vector<MetaContext> contexts_;

  std::vector<std::shared_ptr<Export>> listed_;  ///< during kListing
  std::size_t next_listed_ = 0;
  Negotiated result_;
};

}  // namespace blockmig::nbd
