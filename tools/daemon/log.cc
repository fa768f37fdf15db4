// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

namespace blockmig {
namespace {

constexpr const char* kReplacement = "\xef\xbf\xbd";  // U+FFFD

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

/// syslog's numbers, as sd-daemon(3) has them.
const char* priority_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "<7>";
    case LogLevel::kInfo:
      return "<6>";
    case LogLevel::kWarning:
      return "<4>";
    case LogLevel::kError:
      return "<3>";
  }
  return "<3>";
}

LogForm resolve(LogForm form) {
  if (form != LogForm::kAuto) return form;
  if (isatty(STDERR_FILENO) == 1) return LogForm::kText;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets any
  const bool journal = is_journal_stream(std::getenv("JOURNAL_STREAM"), STDERR_FILENO);
  return journal ? LogForm::kSystemd : LogForm::kJson;
}

std::string printable(const std::string& text) {
  std::string result = text;
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return result;
}

std::string text_line(const std::string& message, const LogFields& fields) {
  std::string line = printable(message);
  if (!fields.disk.empty()) line += " disk=" + printable(fields.disk);
  if (!fields.job.empty()) line += " job=" + printable(fields.job);
  if (fields.epoch != 0) line += " epoch=" + std::to_string(fields.epoch);
  if (fields.client != 0) line += " client=" + std::to_string(fields.client);
  return line;
}

std::string json_members(const std::string& message, const LogFields& fields) {
  std::string line = "\"message\":\"" + escape_for_json(message) + "\"";
  if (!fields.disk.empty()) line += ",\"disk\":\"" + escape_for_json(fields.disk) + "\"";
  if (!fields.job.empty()) line += ",\"job\":\"" + escape_for_json(fields.job) + "\"";
  if (fields.epoch != 0) line += ",\"epoch\":" + std::to_string(fields.epoch);
  if (fields.client != 0) line += ",\"client\":" + std::to_string(fields.client);
  return line;
}

/// How many bytes of `text` from `at` on are one UTF-8 character; 0 if they are none (RFC 3629).
std::size_t utf8_character(const std::string& text, std::size_t at) {
  const auto byte = [&text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned lead = byte(at);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0u) != 0x80) return 0;
  }
  const unsigned second = byte(at + 1);
  const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
  const bool no_scalar = (lead == 0xed && second > 0x9f) || (lead == 0xf4 && second > 0x8f);
  return overlong || no_scalar ? 0 : length;
}

}  // namespace

std::string escape_for_json(const std::string& text) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    const auto byte = static_cast<unsigned char>(c);
    const std::size_t length = utf8_character(text, at);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      result += "\\u00";
      result += kHex[byte >> 4];
      result += kHex[byte & 15];
    } else if (length == 0) {
      result += kReplacement;
    } else {
      result.append(text, at, length);
    }
    at += length == 0 ? 1 : length;
  }
  return result;
}

bool is_journal_stream(const char* variable, int fd) {
  struct stat status {};
  if (variable == nullptr || fstat(fd, &status) != 0) return false;
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) == variable;
}

struct Log::State {
  LogForm form = LogForm::kText;
  std::unique_ptr<spdlog::logger> logger;
};

Log::Log(LogForm form, LogLevel level) : state_(std::make_unique<State>()) {
  state_->form = resolve(form);
  if (state_->form == LogForm::kText || state_->form == LogForm::kSilent) {
    auto sink = std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>();
    state_->logger = std::make_unique<spdlog::logger>("blockmig", sink);
    state_->logger->set_pattern("%H:%M:%S.%e %^%l%$ %v");
  } else {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    state_->logger = std::make_unique<spdlog::logger>("blockmig", sink);
    const bool json = state_->form == LogForm::kJson;
    state_->logger->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
                                     : "%v");
  }
  state_->logger->set_level(level_of(form == LogForm::kSilent ? LogLevel::kError : level));
  state_->logger->flush_on(spdlog::level::debug);
}

Log::~Log() = default;

void Log::write(LogLevel level, const std::string& message, const LogFields& fields) {
  if (!state_->logger->should_log(level_of(level))) return;
  std::string line;
  if (state_->form == LogForm::kJson) {
    line = json_members(message, fields);
  } else if (state_->form == LogForm::kSystemd) {
    line = priority_of(level) + text_line(message, fields);
  } else {
    line = text_line(message, fields);
  }
  // A string_view, so that spdlog takes the text as it is and not as a format.
  state_->logger->log(level_of(level), spdlog::string_view_t(line));
}

}  // namespace blockmig
