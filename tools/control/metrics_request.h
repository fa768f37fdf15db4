// SPDX-License-Identifier: Apache-2.0
// What a client of the metrics listener says, and the head of what it hears. Pure: no I/O.
//
// HTTP/1.0 and 1.1 without anything that a scrape does not need: no ranges, no bodies, no
// connection that is kept. Lines end with CR LF or LF. Thread rule: values, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace blockmig {

/// HTTP statuses of a request for the page.
inline constexpr int kScrapeOk = 200;
inline constexpr int kScrapeBad = 400;
inline constexpr int kScrapeNotFound = 404;
inline constexpr int kScrapeBadMethod = 405;
inline constexpr int kScrapeTooLarge = 431;

struct ScrapeRequest {
  int status = kScrapeBad;  ///< kScrapeOk: it is to have the page
  bool wants_body = true;   ///< false for HEAD
};

/// True if the empty line behind the last header has come.
bool is_whole_head(std::string_view received);
/// Of the request that `received` begins with; is_whole_head() is true.
ScrapeRequest read_scrape(std::string_view received);
/// Everything before the body, with the empty line. The connection closes behind the answer.
std::string response_head(int status, std::string_view content_type, std::size_t body_bytes);
/// The body of a refusal: one line of text.
std::string refusal_text(int status);

}  // namespace blockmig
