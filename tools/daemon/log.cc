// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/log.h"

#include <spdlog/details/log_msg.h>
#include <spdlog/details/os.h>
#include <spdlog/pattern_formatter.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "tools/control/printable_text.h"
#include "tools/daemon/log_writer.h"

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

const char* colour_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "\x1b[36m";
    case LogLevel::kInfo:
      return "\x1b[32m";
    case LogLevel::kWarning:
      return "\x1b[33m\x1b[1m";
    case LogLevel::kError:
      return "\x1b[31m\x1b[1m";
  }
  return "";
}

LogForm resolve(LogForm form) {
  if (form != LogForm::kAuto) return form;
  if (isatty(STDERR_FILENO) == 1) return LogForm::kText;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets any
  const bool journal = is_journal_stream(std::getenv("JOURNAL_STREAM"), STDERR_FILENO);
  return journal ? LogForm::kSystemd : LogForm::kJson;
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
    } else if (length == 2 && byte == 0xc2 && (static_cast<unsigned char>(text[at + 1]) < 0xa0)) {
      result += "\\u00";
      result += kHex[static_cast<unsigned char>(text[at + 1]) >> 4];
      result += kHex[static_cast<unsigned char>(text[at + 1]) & 15];
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

namespace {

/// A line of a form, with its time and, on a terminal, its colour. Thread rule: any thread.
class LineFormat final {
 public:
  explicit LineFormat(LogForm form)
      : form_(form), colours_(is_text() && is_colour_terminal()), pattern_(pattern_of(form)) {}

  std::string line(LogLevel level, const std::string& message, const LogFields& fields) {
    std::string text =
        form_ == LogForm::kJson ? json_members(message, fields) : text_line(message, fields);
    if (form_ == LogForm::kSystemd) text.insert(0, priority_of(level));
    // A string_view, so that spdlog takes the text as it is and not as a format.
    spdlog::details::log_msg event("blockmig", level_of(level), spdlog::string_view_t(text));
    spdlog::memory_buf_t buffer;
    const std::lock_guard lock(mutex_);
    pattern_.format(event, buffer);
    std::string line(buffer.data(), buffer.size());
    if (colours_) {
      line.insert(event.color_range_end, "\x1b[m");
      line.insert(event.color_range_start, colour_of(level));
    }
    return line;
  }

 private:
  bool is_text() const { return form_ == LogForm::kText || form_ == LogForm::kSilent; }
  static bool is_colour_terminal() {
    return spdlog::details::os::in_terminal(stderr) && spdlog::details::os::is_color_terminal();
  }
  static const char* pattern_of(LogForm form) {
    if (form == LogForm::kJson) return R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})";
    return form == LogForm::kSystemd ? "%v" : "%H:%M:%S.%e %^%l%$ %v";
  }

  const LogForm form_;
  const bool colours_;
  std::mutex mutex_;
  spdlog::pattern_formatter pattern_;
};

}  // namespace

struct Log::State {
  State(LogForm form, LogLevel level)
      : least(form == LogForm::kSilent ? LogLevel::kError : level),
        format(std::make_shared<LineFormat>(resolve(form))),
        writer(STDERR_FILENO, [format = format](std::uint64_t lines) {
          return format->line(LogLevel::kWarning,
                              "dropped " + std::to_string(lines) +
                                  " lines of this log: nobody read them, or there was no room",
                              {});
        }) {}

  const LogLevel least;
  const std::shared_ptr<LineFormat> format;
  LogWriter writer;
};

Log::Log(LogForm form, LogLevel level) : state_(std::make_unique<State>(form, level)) {}

Log::~Log() = default;

void Log::write(LogLevel level, const std::string& message, const LogFields& fields) {
  if (level < state_->least) return;
  state_->writer.add(state_->format->line(level, message, fields));
}

bool Log::flush() { return state_->writer.flush(LogWriter::kLastPatience); }

}  // namespace blockmig
