// SPDX-License-Identifier: Apache-2.0
// Log: one line per event on stderr: text on a terminal, lines for the journal under systemd, JSON
// otherwise. Every line carries disk=, job=, epoch= and client= where they are known. Text from
// outside is escaped: a line stays one line. A reader of stderr who stops holds nobody up
// (LogWriter). Thread rule: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace blockmig {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogFields {
  std::string disk;
  std::string job;
  std::uint64_t epoch = 0;   ///< 0: unknown
  std::uint64_t client = 0;  ///< a client's number in `blockmig ls clients`; 0: none
};

enum class LogForm {
  kAuto,     ///< kText on a terminal, kSystemd where stderr is the journal, else kJson
  kText,     ///< time, level, message, fields
  kJson,     ///< an object per line
  kSystemd,  ///< text after "<priority>", without a time: the journal has its own
  kSilent,   ///< text, and nothing below kError
};

/// `text` as it stands inside a JSON string: quotes, backslashes and control bytes escaped, bytes
/// that are not UTF-8 replaced.
std::string escape_for_json(const std::string& text);

/// True if the JOURNAL_STREAM variable that systemd sets ("DEVICE:INODE") names this descriptor:
/// what is written there goes to the journal. Null: not set.
bool is_journal_stream(const char* variable, int fd);

class Log final {
 public:
  /// Nothing below `level` is written; kSilent overrules it.
  explicit Log(LogForm form, LogLevel level = LogLevel::kInfo);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void write(LogLevel level, const std::string& message, const LogFields& fields = {});
  void debug(const std::string& message, const LogFields& fields = {}) {
    write(LogLevel::kDebug, message, fields);
  }
  void info(const std::string& message, const LogFields& fields = {}) {
    write(LogLevel::kInfo, message, fields);
  }
  void warning(const std::string& message, const LogFields& fields = {}) {
    write(LogLevel::kWarning, message, fields);
  }
  void error(const std::string& message, const LogFields& fields = {}) {
    write(LogLevel::kError, message, fields);
  }
  /// Before an end that runs no destructors: waits for what is queued, but not for long. False:
  /// not all is written.
  bool flush();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockmig
