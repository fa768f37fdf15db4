// SPDX-License-Identifier: Apache-2.0
#include "tools/control/metrics_request.h"

#include <algorithm>

#include "tools/control/channel.h"

namespace blockmig {
namespace {

const char* reason(int status) {
  switch (status) {
    case kScrapeOk:
      return "OK";
    case kScrapeBad:
      return "Bad Request";
    case kScrapeNotFound:
      return "Not Found";
    case kScrapeBadMethod:
      return "Method Not Allowed";
    case kScrapeTooLarge:
      return "Request Header Fields Too Large";
    default:
      return "Error";  // nobody reads it: the status counts
  }
}

/// The next line without its end; `text` goes on behind it.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// The next word up to a single space or the end.
std::string_view take_word(std::string_view& line) {
  const std::size_t end = line.find(' ');
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  return word;
}

bool is_printable(char c) { return c > ' ' && c < '\x7f'; }

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_printable);
}

/// "Name: anything that is no control character".
bool is_header(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_word(line.substr(0, colon))) return false;
  const std::string_view value = line.substr(colon + 1);
  return std::none_of(value.begin(), value.end(), [](char c) {
    return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == '\x7f';
  });
}

}  // namespace

bool is_whole_head(std::string_view received) {
  return received.find("\n\r\n") != std::string_view::npos ||
         received.find("\n\n") != std::string_view::npos;
}

ScrapeRequest read_scrape(std::string_view received) {
  std::string_view line = take_line(received);
  const std::string_view method = take_word(line);
  const std::string_view target = take_word(line);
  const std::string_view version = line;
  ScrapeRequest request;
  request.wants_body = method != "HEAD";
  if (!is_word(method) || !is_word(target) || !target.starts_with('/')) return request;
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return request;
  while (!(line = take_line(received)).empty()) {
    if (!is_header(line)) return request;
  }
  if (target.substr(0, target.find('?')) != kMetricsPath) {
    request.status = kScrapeNotFound;
  } else if (method != "GET" && method != "HEAD") {
    request.status = kScrapeBadMethod;
  } else {
    request.status = kScrapeOk;
  }
  return request;
}

std::string response_head(int status, std::string_view content_type, std::size_t body_bytes) {
  std::string head = "HTTP/1.1 " + std::to_string(status) + " " + reason(status) + "\r\n";
  head += "Content-Type: " + std::string(content_type) + "\r\n";
  head += "Content-Length: " + std::to_string(body_bytes) + "\r\n";
  if (status == kScrapeBadMethod) head += "Allow: GET, HEAD\r\n";
  return head + "Connection: close\r\n\r\n";
}

std::string refusal_text(int status) {
  return std::to_string(status) + " " + reason(status) + ": GET " + kMetricsPath +
         " is all there is here\n";
}

}  // namespace blockmig
