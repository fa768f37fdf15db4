// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/log_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>

namespace blockmig {
namespace {

constexpr int kPipeBytes = 4096;

/// A pipe of which nobody reads until it is asked for.
class LogWriterTest : public testing::Test {
 protected:
  LogWriterTest() {
    EXPECT_EQ(pipe(ends_), 0);
    EXPECT_EQ(fcntl(ends_[1], F_SETPIPE_SZ, kPipeBytes), kPipeBytes);
  }
  ~LogWriterTest() override {
    close(ends_[0]);
    if (ends_[1] >= 0) close(ends_[1]);
  }

  static std::string dropped(std::uint64_t lines) {
    return "dropped " + std::to_string(lines) + "\n";
  }
  int fd() const { return ends_[1]; }
  /// What comes until the last line begins like this, with it.
  std::string read_until(const std::string& start) {
    std::string text;
    char piece[kPipeBytes];
    while (text.empty() || text.back() != '\n' || last_line(text).rfind(start, 0) != 0) {
      const ssize_t size = read(ends_[0], piece, sizeof piece);
      if (size <= 0) break;
      text.append(piece, static_cast<std::size_t>(size));
    }
    return text;
  }
  static std::string last_line(const std::string& text) {
    return text.substr(text.size() < 2 ? 0 : text.rfind('\n', text.size() - 2) + 1);
  }
  std::string read_all() {
    close(std::exchange(ends_[1], -1));
    std::string text;
    char byte = 0;
    while (read(ends_[0], &byte, 1) == 1) text += byte;
    return text;
  }

 private:
  int ends_[2] = {-1, -1};
};

TEST_F(LogWriterTest, LinesAreThereInOrderWhenTheyHaveBeenAdded) {
  std::string expected;
  {
    LogWriter writer(fd(), dropped);
    for (int i = 0; i < 100; ++i) {
      writer.add(std::to_string(i) + "\n");
      expected += std::to_string(i) + "\n";
    }
  }
  EXPECT_EQ(read_all(), expected);
}

TEST_F(LogWriterTest, WhereNobodyReadsNobodyWaitsAndWhatIsDroppedIsCounted) {
  const std::string line = std::string(1023, 'x') + "\n";
  const std::size_t lines = 4 * LogWriter::kQueueBytes / line.size();
  LogWriter writer(fd(), dropped);
  for (std::size_t i = 0; i < lines; ++i) writer.add(line);  // that it returns is the test
  EXPECT_FALSE(writer.flush(std::chrono::milliseconds(10)));
  const std::string text = read_until("dropped");
  const std::size_t note = text.rfind("\ndropped ") + 1;
  const std::size_t written = note / line.size();
  EXPECT_EQ(text.substr(note), dropped(lines - written));
  EXPECT_GE(written * line.size(), LogWriter::kQueueBytes) << "the queue is full before";
  writer.add("after\n");
  EXPECT_TRUE(writer.flush(LogWriter::kLastPatience));
  EXPECT_EQ(read_all(), "after\n");
}

TEST_F(LogWriterTest, TheEndWaitsForNoReader) {
  {
    LogWriter writer(fd(), dropped);
    for (int i = 0; i < 100; ++i) writer.add(std::string(1023, 'x') + "\n");
  }
  // The thread of it writes on if somebody reads after all, until the process ends.
  EXPECT_EQ(read_until("x").substr(0, 4), "xxxx");
}

TEST_F(LogWriterTest, ADescriptorThatTakesNothingIsNotWaitedFor) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  {
    LogWriter writer(full, dropped);
    for (int i = 0; i < 100; ++i) writer.add("lost\n");
    EXPECT_TRUE(writer.flush(LogWriter::kLastPatience));
  }
  close(full);
}

}  // namespace
}  // namespace blockmig
