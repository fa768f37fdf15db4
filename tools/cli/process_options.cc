// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/process_options.h"

#include <algorithm>
#include <array>
#include <set>

#include "blockmig/base/uri.h"
#include "nbdserver/limit_table.h"
#include "tools/cli/option_values.h"
#include "tools/cli/user_names.h"
#include "tools/control/messages.h"

namespace blockmig {
namespace {

constexpr unsigned kMaxThreads = 64;

const std::array kOptions = {
    ProcessOption{"listen", "ADDRESS",
                  "where clients connect: unix:PATH, tcp:HOST:PORT, tcp::PORT (IPv4 and IPv6), "
                  "vsock:CID:PORT; may be repeated (default: nbd.sock in the state folder, once "
                  "there is a disk)",
                  &RawProcess::listen, false},
    ProcessOption{"socket-mode", "MODE", "permissions of unix sockets, as 0660",
                  &RawProcess::socket_mode, true, false, true},
    ProcessOption{"socket-group", "GROUP", "group of unix sockets, by name or number",
                  &RawProcess::socket_group},
    ProcessOption{"allow-uid", "USER",
                  "only this user's processes may connect to unix sockets; may be repeated",
                  &RawProcess::allow_uid},
    ProcessOption{"allow-gid", "GROUP", "the same for processes that are in this group",
                  &RawProcess::allow_gid},
    ProcessOption{"tls", "MODE",
                  "off, on (who wants to) or require (default: require where --tls-certs or "
                  "--tls-psk is given, else off); addresses that other machines reach are listened "
                  "on without TLS only with an explicit 'off'",
                  &RawProcess::tls},
    ProcessOption{"tls-certs", "DIR",
                  "folder with ca-cert.pem, server-cert.pem, server-key.pem and maybe ca-crl.pem; "
                  "clients show a certificate of the same authority",
                  &RawProcess::tls_certs},
    ProcessOption{"tls-psk", "FILE", "pre-shared keys, as psktool writes them",
                  &RawProcess::tls_psk},
    ProcessOption{"tls-any-client", "", "serve TLS clients that show no certificate",
                  &RawProcess::tls_any_client},
    ProcessOption{"tls-list", "", "with --tls require: answer LIST before TLS",
                  &RawProcess::tls_list},
    ProcessOption{"allow", "RULE",
                  "who may see which exports: 'cn:backup-* -> *', 'psk:alice -> vm1, vm2', "
                  "'uid:1000 -> vm3'; may be repeated; with rules everything else is denied",
                  &RawProcess::allow},
    ProcessOption{"limit", "NAME=VALUE",
                  "what clients may use; may be repeated; 'blockmig help limits' lists them",
                  &RawProcess::limits},
    ProcessOption{
        "stdio", "",
        "serve one client on standard input and output (or on the socket that is standard "
        "input), and end with it",
        &RawProcess::stdio},
    ProcessOption{"replace", "",
                  "take the place of the daemon that runs in the state folder, with its disks and "
                  "its clients, who notice a short pause; start as usual where none runs",
                  &RawProcess::replace, true, true},
    ProcessOption{"fd-store", "",
                  "under systemd (FileDescriptorStoreMax=): leave disks and clients there at the "
                  "end, so that a restart does not show",
                  &RawProcess::fd_store, true, true},
    ProcessOption{"disk", "NAME=STORE", "offer this disk from the start; may be repeated",
                  &RawProcess::disks, true, true},
    ProcessOption{"threads", "N",
                  "threads that serve clients (default: one per processor, at most 4)",
                  &RawProcess::threads},
    ProcessOption{
        "bwlimit", "RATE",
        "what all jobs may copy together, from 1KiB/s, shared by their priorities; or none "
        "(default: "
        "as 'blockmig set --daemon' has left it)",
        &RawProcess::bwlimit},
    ProcessOption{"stop-timeout", "TIME",
                  "how long an end waits for stores that do not answer, before it gives up what "
                  "they were asked (default: 30s)",
                  &RawProcess::stop_timeout},
    ProcessOption{"loop", "KIND", "event loop: auto, io_uring, portable", &RawProcess::loop, false},
    ProcessOption{"log", "FORM", "log on stderr: auto (text on a terminal), text, json, systemd",
                  &RawProcess::log, false},
    ProcessOption{"log-level", "LEVEL", "least that is logged: debug, info, warning, error",
                  &RawProcess::log_level},
    ProcessOption{"metrics", "ADDRESS",
                  "answer scrapes of Prometheus on tcp:HOST:PORT, to whoever can connect there "
                  "(default: only on the control socket, and by 'blockmig metrics')",
                  &RawProcess::metrics},
};

Result<LoopKind> parse_loop(const std::string& text) {
  return parse_choice<LoopKind>(text, {{"auto", LoopKind::kAuto},
                                       {"io_uring", LoopKind::kUring},
                                       {"portable", LoopKind::kPortable}});
}

Result<LogForm> parse_log(const std::string& text) {
  return parse_choice<LogForm>(text, {{"auto", LogForm::kAuto},
                                      {"text", LogForm::kText},
                                      {"json", LogForm::kJson},
                                      {"systemd", LogForm::kSystemd}});
}

Result<LogLevel> parse_log_level(const std::string& text) {
  return parse_choice<LogLevel>(text, {{"debug", LogLevel::kDebug},
                                       {"info", LogLevel::kInfo},
                                       {"warning", LogLevel::kWarning},
                                       {"error", LogLevel::kError}});
}

Result<std::optional<SocketAddress>> parse_metrics(const std::string& text) {
  const Result<SocketAddress> address = SocketAddress::parse(text);
  if (!address) return usage(address.error().message());
  if (address->family != SocketAddress::Family::kTcp) {
    return usage("'" + text + "' is no TCP address, such as tcp:127.0.0.1:9464");
  }
  return std::optional(*address);
}

Result<std::optional<std::uint64_t>> parse_bwlimit(const std::string& text) {
  const Result<std::uint64_t> rate = parse_limit(text);
  if (!rate) return rate.error();
  return std::optional(*rate);
}

Result<std::string> parse_tls(const std::string& text) {
  if (text == "off" || text == "on" || text == "require") return text;
  return usage("TLS is off, on or require, not '" + text + "'");
}

Result<unsigned> parse_threads(const std::string& text) {
  const Result<std::uint32_t> count = parse_count(text);
  if (!count) return count.error();
  if (*count < 1 || *count > kMaxThreads) {
    return usage("'" + text + "' is not from 1 to " + std::to_string(kMaxThreads));
  }
  return *count;
}

/// Permission bits in octal.
Result<std::optional<std::uint32_t>> parse_socket_mode(const std::string& text) {
  const bool octal = text.size() <= 4 && text.find_first_not_of("01234567") == text.npos;
  const unsigned long mode = octal ? std::stoul(text, nullptr, 8) : ~0ul;
  if (mode > 0777) return usage("'" + text + "' is no mode of a socket, such as 0660");
  return std::optional(static_cast<std::uint32_t>(mode));
}

Result<std::optional<std::uint32_t>> parse_group(const std::string& text) {
  const Result<std::uint32_t> gid = group_number(text);
  if (!gid) return gid.error();
  return std::optional(*gid);
}

Status take_listen(const std::vector<std::string>& texts, std::vector<std::string>& into) {
  for (const std::string& text : texts) {
    const Result<SocketAddress> address = SocketAddress::parse(text);
    if (!address) return usage("--listen: " + address.error().message());
    if (address->is_abstract()) return usage("--listen: " + abstract_name_text(text));
    SocketAddress absolute = *address;
    if (absolute.family == SocketAddress::Family::kUnix) {
      // The daemon's working folder is not ours.
      const Result<StoreUri> path =
          parse_store_uri(absolute.path.starts_with('/') ? absolute.path : "./" + absolute.path);
      if (!path) return usage("--listen: " + path.error().message());
      absolute.path = path->path;
    }
    const std::string address_text = absolute.to_string();
    if (std::find(into.begin(), into.end(), address_text) != into.end()) {
      return usage("--listen: '" + text + "' is given twice");
    }
    into.push_back(address_text);
  }
  return {};
}

Status take_disks(const std::vector<std::string>& texts, std::vector<DiskArgument>& into) {
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) return usage("--disk: '" + text + "' is not NAME=STORE");
    DiskArgument disk;
    disk.name = text.substr(0, equals);
    const Status name = check_name("disk", disk.name);
    if (!name) return usage("--disk: " + name.error().message());
    const Result<StoreUri> source = parse_store_uri(text.substr(equals + 1));
    if (!source) return usage("--disk: " + source.error().message());
    disk.source = source->text;
    const bool twice = std::any_of(into.begin(), into.end(), [&disk](const DiskArgument& each) {
      return each.name == disk.name;
    });
    if (twice) return usage("--disk: disk '" + disk.name + "' is given twice");
    into.push_back(std::move(disk));
  }
  return {};
}

/// Every text must be somebody: one that is left out would change who is let in.
Status take_ids(const char* option, const std::vector<std::string>& texts,
                std::vector<std::uint32_t>& into,
                Result<std::uint32_t> (*parse)(const std::string&)) {
  for (const std::string& text : texts) {
    const Result<std::uint32_t> id = parse(text);
    if (!id) return usage(std::string(option) + ": " + id.error().message());
    into.push_back(*id);
  }
  return {};
}

/// Of a limit that is given twice nobody could say which one was meant.
Status take_limits(const std::vector<std::string>& texts, NbdServerLimits& into) {
  std::set<std::string> names;
  for (const std::string& text : texts) {
    const Status set = set_limit(into, text);
    if (!set) return usage("--limit: " + set.error().message());
    const std::string name = text.substr(0, text.find('='));
    if (!names.insert(name).second) return usage("--limit: " + name + " is given twice");
  }
  const Status consistent = check_limits(into);
  return consistent.ok() ? consistent : usage("--limit: " + consistent.error().message());
}

}  // namespace

std::span<const ProcessOption> process_options() { return kOptions; }

bool is_given(const RawProcess& raw, const ProcessOption& option) {
  if (const auto* flag = std::get_if<bool RawProcess::*>(&option.place)) return raw.**flag;
  if (const auto* text = std::get_if<std::string RawProcess::*>(&option.place)) {
    return !(raw.**text).empty();
  }
  return !(raw.*std::get<std::vector<std::string> RawProcess::*>(option.place)).empty();
}

Result<ProcessSettings> convert_process(const RawProcess& raw) {
  ProcessSettings settings;
  Status status;
  take(status, "--loop", raw.loop, settings.loop, parse_loop);
  take(status, "--log", raw.log, settings.log, parse_log);
  take(status, "--log-level", raw.log_level, settings.log_level, parse_log_level);
  take(status, "--metrics", raw.metrics, settings.metrics, parse_metrics);
  take(status, "--bwlimit", raw.bwlimit, settings.bwlimit_bytes_per_second, parse_bwlimit);
  take(status, "--stop-timeout", raw.stop_timeout, settings.stop_timeout, parse_duration);
  take(status, "--tls", raw.tls, settings.security.tls, parse_tls);
  take(status, "--threads", raw.threads, settings.threads, parse_threads);
  take(status, "--socket-mode", raw.socket_mode, settings.unix_sockets.mode, parse_socket_mode);
  take(status, "--socket-group", raw.socket_group, settings.unix_sockets.gid, parse_group);
  if (status.ok()) {
    status = take_ids("--allow-uid", raw.allow_uid, settings.peers.allowed_uids, user_number);
  }
  if (status.ok()) {
    status = take_ids("--allow-gid", raw.allow_gid, settings.peers.allowed_gids, group_number);
  }
  if (status.ok()) status = take_limits(raw.limits, settings.limits);
  if (status.ok()) status = take_listen(raw.listen, settings.listen);
  if (status.ok()) status = take_disks(raw.disks, settings.disks);
  if (!status) return status.error();
  settings.stdio = raw.stdio;
  settings.replace = raw.replace;
  settings.fd_store = raw.fd_store;
  const bool has_credentials = !raw.tls_certs.empty() || !raw.tls_psk.empty();
  settings.security.tls = !raw.tls.empty() ? raw.tls : has_credentials ? "require" : "off";
  settings.security.open_to_networks = !raw.tls.empty();
  settings.security.tls_certificates = raw.tls_certs;
  settings.security.tls_psk = raw.tls_psk;
  settings.security.tls_verify_peer = !raw.tls_any_client;
  settings.security.tls_list = raw.tls_list;
  settings.security.allow = raw.allow;
  for (const ProcessOption& option : kOptions) {
    if (option.fixed_at_start && is_given(raw, option)) {
      settings.fixed_at_start.push_back(std::string("--") + option.name);
    }
  }
  return settings;
}

}  // namespace blockmig
