// SPDX-License-Identifier: Apache-2.0
// Log: one line per event on stderr: text on a terminal, JSON otherwise. Every line carries disk=,
// job= and epoch= where they are known. Text from outside is escaped: a line stays one line. Thread
// rule: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace blockmig {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogFields {
  std::string disk;
  std::string job;
  std::uint64_t epoch = 0;  ///< 0: unknown
};

enum class LogForm {
  kAuto,  ///< by whether stderr is a terminal
  kText,
  kJson,
  kSilent,  ///< nothing below kError
};

/// `text` as it stands inside a JSON string: quotes, backslashes and control bytes escaped.
std::string escape_for_json(const std::string& text);

class Log final {
 public:
  explicit Log(LogForm form);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void write(LogLevel level, const std::string& message, const LogFields& fields = {});
  void info(const std::string& message, const LogFields& fields = {}) {
    write(LogLevel::kInfo, message, fields);
  }
  void warning(const std::string& message, const LogFields& fields = {}) {
    write(LogLevel::kWarning, message, fields);
  }
  void error(const std::string& message, const LogFields& fields = {}) {
    write(LogLevel::kError, message, fields);
  }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockmig
