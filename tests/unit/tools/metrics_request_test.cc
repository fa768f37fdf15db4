// SPDX-License-Identifier: Apache-2.0
#include "tools/control/metrics_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace blockmig {
namespace {

using testing::HasSubstr;

TEST(MetricsRequest, AHeadEndsWithAnEmptyLine) {
  EXPECT_TRUE(is_whole_head("GET /metrics HTTP/1.1\r\n\r\n"));
  EXPECT_TRUE(is_whole_head("GET /metrics HTTP/1.1\nHost: a\n\nrest"));
  EXPECT_FALSE(is_whole_head(""));
  EXPECT_FALSE(is_whole_head("GET /metrics HTTP/1.1\r\n"));
  EXPECT_FALSE(is_whole_head("GET /metrics HTTP/1.1\r\nHost: a\r\n\r"));
}

TEST(MetricsRequest, ThePageIsForGetAndHead) {
  for (const char* line : {"GET /metrics HTTP/1.0", "GET /metrics HTTP/1.1",
                           "HEAD /metrics HTTP/1.1", "GET /metrics?name=a/b HTTP/1.1"}) {
    for (const char* rest :
         {"\r\n\r\n", "\n\n", "\r\nHost: a:1\r\nX:\r\nRange: bytes=0-\r\n\r\n"}) {
      const ScrapeRequest request = read_scrape(std::string(line) + rest);
      EXPECT_EQ(request.status, kScrapeOk) << line << rest;
      EXPECT_EQ(request.wants_body, line[0] == 'G') << line;
    }
  }
}

TEST(MetricsRequest, OtherPathsAreNotFoundAndOtherMethodsNotAllowed) {
  for (const char* path : {"/", "/metrics/", "/metrics2", "/Metrics", "/v1/status", "//metrics"}) {
    const std::string line = std::string(path) + " HTTP/1.1\r\n\r\n";
    EXPECT_EQ(read_scrape("GET " + line).status, kScrapeNotFound) << path;
    EXPECT_EQ(read_scrape("POST " + line).status, kScrapeNotFound) << path;
  }
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "BREW"}) {
    const std::string text = std::string(method) + " /metrics HTTP/1.1\r\n\r\n";
    EXPECT_EQ(read_scrape(text).status, kScrapeBadMethod) << method;
  }
}

TEST(MetricsRequest, WhatIsNotHttpIsBad) {
  for (const std::string& head :
       {std::string("\r\n"), std::string("rubbish\r\n"), std::string("GET\r\n"),
        std::string("GET /metrics\r\n"), std::string("GET /metrics HTTP/2\r\n"),
        std::string("GET /metrics HTTP/1.1 x\r\n"), std::string("GET  /metrics HTTP/1.1\r\n"),
        std::string(" GET /metrics HTTP/1.1\r\n"), std::string("GET metrics HTTP/1.1\r\n"),
        std::string("GET http://a/metrics HTTP/1.1\r\n"),
        std::string("G\0T /metrics HTTP/1.1\r\n", 24),
        std::string("GET /metrics HTTP/1.1\r\nno colon\r\n"),
        std::string("GET /metrics HTTP/1.1\r\n: no name\r\n"),
        std::string("GET /metrics HTTP/1.1\r\nHost : a\r\n"),
        std::string("GET /metrics HTTP/1.1\r\nHost: a\r\n folded\r\n"),
        std::string("GET /metrics HTTP/1.1\r\nHost: a\rb\r\n")}) {
    EXPECT_EQ(read_scrape(head + "\r\n").status, kScrapeBad) << head;
  }
}

TEST(MetricsRequest, AnAnswerSaysItsLengthAndThatTheConnectionEnds) {
  EXPECT_EQ(response_head(kScrapeOk, "text/plain", 12),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
            "Connection: close\r\n\r\n");
  EXPECT_THAT(response_head(kScrapeBadMethod, "text/plain", 0), HasSubstr("Allow: GET, HEAD\r\n"));
  EXPECT_THAT(refusal_text(kScrapeNotFound), HasSubstr("404 Not Found"));
}

}  // namespace
}  // namespace blockmig
