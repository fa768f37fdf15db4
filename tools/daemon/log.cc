// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

namespace blockmig {
namespace {

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

std::string text_line(const std::string& message, const LogFields& fields) {
  std::string line;
  for (const char c : message) {
    line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  }
  if (!fields.disk.empty()) line += " disk=" + fields.disk;
  if (!fields.job.empty()) line += " job=" + fields.job;
  if (fields.epoch != 0) line += " epoch=" + std::to_string(fields.epoch);
  return line;
}

std::string json_members(const std::string& message, const LogFields& fields) {
  std::string line = "\"message\":\"" + escape_for_json(message) + "\"";
  if (!fields.disk.empty()) line += ",\"disk\":\"" + escape_for_json(fields.disk) + "\"";
  if (!fields.job.empty()) line += ",\"job\":\"" + escape_for_json(fields.job) + "\"";
  if (fields.epoch != 0) line += ",\"epoch\":" + std::to_string(fields.epoch);
  return line;
}

}  // namespace

std::string escape_for_json(const std::string& text) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      result += "\\u00";
      result += kHex[byte >> 4];
      result += kHex[byte & 15];
    } else {
      result += c;
    }
  }
  return result;
}

struct Log::State {
  bool json = false;
  std::unique_ptr<spdlog::logger> logger;
};

Log::Log(LogForm form) : state_(std::make_unique<State>()) {
  const bool terminal = isatty(STDERR_FILENO) == 1;
  state_->json = form == LogForm::kJson || (form == LogForm::kAuto && !terminal);
  if (state_->json) {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    state_->logger = std::make_unique<spdlog::logger>("blockmig", sink);
    state_->logger->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})");
  } else {
    auto sink = std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>();
    state_->logger = std::make_unique<spdlog::logger>("blockmig", sink);
    state_->logger->set_pattern("%H:%M:%S.%e %^%l%$ %v");
  }
  state_->logger->set_level(form == LogForm::kSilent ? spdlog::level::err : spdlog::level::info);
  state_->logger->flush_on(spdlog::level::info);
}

Log::~Log() = default;

void Log::write(LogLevel level, const std::string& message, const LogFields& fields) {
  // A string_view, so that spdlog takes the text as it is and not as a format.
  const std::string line =
      state_->json ? json_members(message, fields) : text_line(message, fields);
  state_->logger->log(level_of(level), spdlog::string_view_t(line));
}

}  // namespace blockmig
