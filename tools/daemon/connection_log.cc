// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/connection_log.h"

#include "blockmig/base/units.h"

namespace blockmig {
namespace {

std::string client_text(const NbdClientInfo& client) {
  std::string text = "client " + std::to_string(client.id) + " (" + client.peer;
  if (client.tls)
    text += ", " + std::string(client.tls_description.empty() ? "TLS" : client.tls_description);
  if (!client.identity.empty()) text += ", " + client.identity;
  return text + ")";
}

std::string totals_text(const NbdClientInfo& client) {
  std::string text = " after " + format_duration(client.connected) + ": " +
                     std::to_string(client.requests) + " requests, " +
                     format_bytes(client.bytes_read) + " read, " +
                     format_bytes(client.bytes_written) + " written";
  const std::uint64_t errors = client.counters.errors.value();
  if (errors != 0) text += ", " + std::to_string(errors) + " errors";
  return text;
}

const char* text_of(NbdHandshakeFailure failure) {
  switch (failure) {
    case NbdHandshakeFailure::kClosed:
      return "went away during the negotiation";
    case NbdHandshakeFailure::kProtocol:
      return "broke the rules of the negotiation";
    case NbdHandshakeFailure::kLimit:
      return "exceeded a limit of the negotiation";
    case NbdHandshakeFailure::kTimeout:
      return "did not finish the negotiation in time";
    case NbdHandshakeFailure::kUnknownExport:
      return "asked for a disk that is not here";
    case NbdHandshakeFailure::kTlsRequired:
      return "did not use TLS, which is required";
    case NbdHandshakeFailure::kTls:
      return "failed in the TLS handshake";
    case NbdHandshakeFailure::kShutdown:
      return "was cut off during the negotiation";
  }
  return "failed";
}

const char* text_of(NbdRefusalReason reason) {
  switch (reason) {
    case NbdRefusalReason::kPeerNotAllowed:
      return "its user may not connect";
    case NbdRefusalReason::kTooManyConnections:
      return "there are too many connections";
    case NbdRefusalReason::kTooManyOfPeer:
      return "it has too many connections";
    case NbdRefusalReason::kStopping:
      return "the daemon is stopping";
  }
  return "refused";
}

const char* text_of(NbdClientEnd end) {
  switch (end) {
    case NbdClientEnd::kLeft:
      return " left";
    case NbdClientEnd::kProtocol:
      return " dropped for breaking the protocol";
    case NbdClientEnd::kCut:
      return " cut off";
    case NbdClientEnd::kShutdown:
      return " ended with the server";
  }
  return " gone";
}

}  // namespace

LogFields ConnectionLog::fields_of(const NbdClientInfo& client) const {
  LogFields fields;
  fields.disk = client.export_name;
  if (!client.export_name.empty()) fields.epoch = epoch_of_(client.export_name);
  fields.client = client.id;
  return fields;
}

void ConnectionLog::on_refused(const NbdRefusal& refusal) {
  write(troubles_, "connection of " + refusal.peer + " refused: " + text_of(refusal.reason), {});
}

void ConnectionLog::on_handshake_failed(const NbdClientInfo& client, NbdHandshakeFailure failure) {
  std::string text = client_text(client) + " " + text_of(failure);
  if (!client.tls_error.empty()) text += ": " + client.tls_error;
  write(troubles_, text, fields_of(client));
}

void ConnectionLog::on_connected(const NbdClientInfo& client) {
  write(visits_, client_text(client) + " connected", fields_of(client));
}

void ConnectionLog::on_gone(const NbdClientInfo& client, NbdClientEnd end) {
  Kind& kind = end == NbdClientEnd::kProtocol ? troubles_ : visits_;
  write(kind, client_text(client) + text_of(end) + totals_text(client), fields_of(client));
}

void ConnectionLog::on_stalled(const NbdClientInfo& client) {
  log_.warning("client " + std::to_string(client.id) + " (" + client.peer +
                   ") is cut: it keeps memory that others wait for, and neither reads nor sends",
               fields_of(client));
}

void ConnectionLog::write(Kind& kind, const std::string& text, const LogFields& fields) {
  const TimePoint now = loop_.now();
  tell_suppressed(kind, now);
  if (kind.limiter.admits(now)) log_.write(kind.level, text, fields);
}

void ConnectionLog::tell_suppressed(Kind& kind, TimePoint now) {
  const std::uint64_t count = kind.limiter.take_suppressed(now);
  if (count == 0) return;
  log_.write(kind.level, "suppressed " + std::to_string(count) + " " + kind.suppressed_what);
}

void ConnectionLog::tick() {
  const TimePoint now = loop_.now();
  tell_suppressed(visits_, now);
  tell_suppressed(troubles_, now);
}

}  // namespace blockmig
