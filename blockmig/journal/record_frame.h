// SPDX-License-Identifier: Apache-2.0
// What all values of the journal have around their payload, and what payloads are made of. Used by
// the codecs of this folder only. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "blockmig/base/error.h"
#include "blockmig/journal/record_format.h"

namespace blockmig::record_frame {

class Writer final {
 public:
  void number(std::uint64_t value);
  void text(std::string_view value);
  void bytes(std::string_view value) { payload_ += value; }
  std::string frame(record_format::Kind kind, std::string_view key,
                    std::uint8_t version = record_format::kRecordVersion) const;

 private:
  std::string payload_;
};

/// Reads a payload; once something did not fit, everything further is empty and finished() stays
/// false.
class Reader final {
 public:
  explicit Reader(std::string_view payload) : left_(payload) {}
  std::uint64_t number();
  std::string text();
  /// All that is left.
  std::string_view rest();
  bool ok() const { return ok_; }
  bool at_end() const { return left_.empty(); }
  bool finished() const { return ok_ && left_.empty(); }

 private:
  std::string_view left_;
  bool ok_ = true;
};

Error damaged(std::string_view key, std::string_view what);

struct Opened {
  std::uint8_t version = 0;
  std::string_view payload;
};
/// The payload inside a value, after everything around it was checked. Versions from 1 to `newest`.
Result<Opened> open_frame(record_format::Kind kind, std::string_view key, std::string_view value,
                          std::uint8_t newest = record_format::kRecordVersion);

/// `value`, if key and value keep their limits and there is a name.
Result<std::string> checked(std::string_view key, std::string_view name, std::string value);

}  // namespace blockmig::record_frame
