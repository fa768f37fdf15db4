// SPDX-License-Identifier: Apache-2.0
// What the parts of a HydratingDevice share: the two stores, the presence map, the order of
// requests, and the counters. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/latency_histogram.h"
#include "blockmig/block/block_device.h"
#include "blockmig/block/range_lock.h"
#include "blockmig/disk/presence_map.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/replica.h"
#include "blockmig/migrate/store_silence.h"

namespace blockmig {

struct HydrationOptions {
  /// A request that needs the base waits at most this long for it, and then fails.
  Duration patience = std::chrono::seconds(30);
  /// A base that answers nothing for this long costs a mirrored write no more: the reverse mirror
  /// is given up, and the write is acknowledged from the new store. Three times that where the base
  /// answers others meanwhile. Where only the base would have the write, half of `patience` for a
  /// base that answers nothing.
  Duration reverse_deadline = std::chrono::seconds(1);
  /// A new store that has answered none of our writes for this long is not waited for by readers of
  /// what is absent: they get it from the base.
  Duration keep_deadline = std::chrono::seconds(1);
  /// Pulls in flight in the background at most; demanded ones may take as much again.
  std::uint64_t window_bytes = 16 * kMiB;
  std::uint32_t pull_bytes = 1024 * 1024;       ///< of one pull at most; at least one chunk
  std::uint32_t read_ahead_bytes = 512 * 1024;  ///< what follows a demanded chunk comes with it
  bool keep_reads = true;                       ///< what is read from the base is kept
  bool compare = true;     ///< what was fetched is hashed before and after it is stored (I13)
  bool read_back = false;  ///< a chunk counts as present after it was read back and compared
};

/// Why a chunk is pulled, in order of urgency.
enum class PullKind : unsigned char { kDemand, kPrefetch, kPush };
inline constexpr std::size_t kPullKinds = 3;

struct HydrationStats {
  std::uint64_t pulls[kPullKinds] = {};         ///< that filled something, by PullKind
  std::uint64_t bytes_pulled[kPullKinds] = {};  ///< zeros included
  std::uint64_t bytes_zero = 0;                 ///< of these: zeros, which were not written as data
  std::uint64_t bytes_spared = 0;   ///< absent chunks that a write or a discard filled, unfetched
  std::uint64_t overtaken = 0;      ///< pulls that read again because a write came in between
  std::uint64_t base_errors = 0;    ///< failed or late answers of the base
  std::uint64_t mismatches = 0;     ///< pulls that verification found to differ
  LatencyHistogram demand_latency;  ///< reads that had to wait for the base
  /// Of the base, or of keeping what it gave; empty since that went well.
  std::string last_error;
};

struct HydrationCore {
  HydrationCore(EventLoop& event_loop, std::unique_ptr<BlockDevice> new_store,
                std::unique_ptr<PresenceMap> presence, const HydrationOptions& hydration_options)
      : loop(event_loop),
        options(hydration_options),
        local(std::move(new_store)),
        silence(event_loop),
        map(std::move(presence)),
        order(event_loop),
        changed(event_loop),
        stop(event_loop) {}

  EventLoop& loop;
  HydrationOptions options;
  std::unique_ptr<BlockDevice> local;
  StoreSilence silence;  ///< of `local`, to what fills it
  std::unique_ptr<Replica> base;
  std::unique_ptr<PresenceMap> map;
  /// Chunks of `local` that may hold something; null: all (trap 9).
  std::unique_ptr<DirtyBitmap> written;
  /// Requests that may meet an absent chunk, or that write both stores, in order of arrival. A pull
  /// holds its chunks while it writes them; whoever holds a byte of an absent chunk keeps it
  /// absent.
  RangeLock order;
  /// What was fetched last could not be kept, as in a full store: readers get it from the base.
  bool cannot_keep = false;
  /// Of reads that nobody waits for any more, whose buffers are kept until the base answers (I9).
  std::uint64_t late_read_bytes = 0;
  Event changed;  ///< pulsed when a chunk became present, a pull ended, or a late read did
  Event stop;     ///< set when the device is closed: nobody waits for the base any more
  HydrationStats stats;
  /// A pull has put `content`, or zeros where that is empty, into the new store. May be empty.
  std::function<void(ByteRange range, ConstBytes content)> on_pulled;
  /// A read of the base has failed: its connection may have to be made anew. May be empty.
  std::function<void()> on_base_failed;
};

}  // namespace blockmig
