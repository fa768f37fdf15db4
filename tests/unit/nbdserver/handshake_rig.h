// SPDX-License-Identifier: Apache-2.0
// HandshakeTest: a negotiation over two exports, driven without I/O.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "fake_export.h"
#include "nbdserver/handshake.h"
#include "wire_bytes.h"

namespace blockmig::nbd {

/// An option's data that is wrong, and how.
struct Malformed {
  const char* name;
  ByteVector data;
};

class HandshakeTest : public testing::Test {
 protected:
  HandshakeTest() {
    disk_ = std::make_shared<FakeExport>("disk0", device_);
    disk_->description_ = "first disk";
    directory_.exports_.push_back(disk_);
    second_ = std::make_shared<FakeExport>("disk1", second_device_);
    directory_.exports_.push_back(second_);
    restart();
  }
  void restart() {
    handshake_ = std::make_unique<Handshake>(directory_, limits_);
    handshake_->clear_output();
    input_.clear();
  }
  /// Feeds `bytes` behind what was left over, `piece` bytes at a time, and returns the output.
  ByteVector talk(const ByteVector& bytes, std::size_t piece = SIZE_MAX) {
    ByteVector output;
    std::size_t at = 0;
    for (;;) {
      const std::size_t consumed = handshake_->feed(input_);
      input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(consumed));
      const ConstBytes out = handshake_->output();
      const bool idle = consumed == 0 && out.empty();
      output.insert(output.end(), out.begin(), out.end());
      longest_output_ = std::max(longest_output_, out.size());
      handshake_->clear_output();
      if (handshake_->state() == Handshake::State::kTransmission ||
          handshake_->state() == Handshake::State::kClosed) {
        break;
      }
      if (!idle) continue;
      if (at == bytes.size()) break;
      const std::size_t more =
          std::min({piece, bytes.size() - at, Handshake::kMaxInputBytes - input_.size()});
      input_.insert(input_.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at),
                    bytes.begin() + static_cast<std::ptrdiff_t>(at + more));
      at += more;
    }
    return output;
  }
  bool closed() const { return handshake_->state() == Handshake::State::kClosed; }
  bool transmits() const { return handshake_->state() == Handshake::State::kTransmission; }
  /// Type of the only reply in `output`, which must be for `number`.
  static std::uint32_t only_reply(const ByteVector& output, std::uint32_t number) {
    if (output.size() < 20 || read_be(output, 16, 4) != output.size() - 20) return 0;
    if (read_be(output, 8, 4) != number) return 0;
    return static_cast<std::uint32_t>(read_be(output, 12, 4));
  }
  ByteVector info_export(int number, std::uint16_t flags, std::uint64_t size = kSize) {
    return option_reply(static_cast<std::uint32_t>(number), kRepInfo,
                        Wire().u16(0).u64(size).u16(flags));
  }
  ByteVector info_sizes(int number) {
    return option_reply(static_cast<std::uint32_t>(number), kRepInfo,
                        Wire().u16(3).u32(1).u32(4096).u32(32u << 20));
  }

  static constexpr std::uint64_t kSize = 1000003;
  static constexpr std::uint16_t kPlainFlags =
      0x0d6d;  // HAS FLUSH FUA TRIM ZEROES MULTI CACHE FAST
  static constexpr std::uint16_t kStructuredFlags = kPlainFlags | 0x80;
  MemoryDevice device_{"memory", kSize};
  MemoryDevice second_device_{"memory", 77};
  std::shared_ptr<FakeExport> disk_;
  std::shared_ptr<FakeExport> second_;
  FakeDirectory directory_;
  NbdServerLimits limits_;
  std::unique_ptr<Handshake> handshake_;
  ByteVector input_;
  std::size_t longest_output_ = 0;
};

}  // namespace blockmig::nbd
