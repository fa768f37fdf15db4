// SPDX-License-Identifier: Apache-2.0
// Generation: one point in time of a disk, held still for the copier while the guest goes on.
//
// It begins at an instant at which no request is inside the gate, and takes over every chunk that
// is dirty then. Until such a chunk has been acknowledged by the target, its content of that
// instant must not be lost:
//
//   guest's write into a chunk not yet acknowledged ──▶ the old content is kept in memory first
//   ... that the copier is reading this moment      ──▶ and the write waits for that read
//   ... already acknowledged, or not of this one    ──▶ nothing to do
//
// The copier takes kept chunks first and from memory; a copy that failed is repeated from there.
// All writes are marked dirty for the next generation. Kept content is bounded
// (options.snapshot_buffer_bytes): with the buffer full, a write waits for room for at most the
// mirror's deadline (with --on-stall throttle, while the job copies: the target's timeout). Then
// the generation is torn: it is no point in time any more and says so; nobody waits for it again.
// So a guest is neither stalled nor the user lied to.
//
// Lifecycle: made under a closed and drained gate, attached to the disk as its WriteMirror and to
// the engine as its CopySource; detached; give_up(); wait_empty(); destroyed. Thread rule: the
// disk's loop.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/disk/write_mirror.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/buffer.h"
#include "blockmig/migrate/copy_source.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/sync_state.h"

namespace blockmig {

struct GenerationStats {
  std::uint64_t chunks_kept = 0;  ///< whose old content was needed
  Duration longest_wait{};        ///< that it added to one write
};

class Generation final : public WriteMirror, public CopySource {
 public:
  /// Requires a closed and drained gate. `pending` is empty, of the size and granularity of
  /// sync.dirty, which is cleared.
  Generation(EventLoop& loop, SyncState& sync, BlockDevice& store, const JobOptions& options,
             std::unique_ptr<DirtyBitmap> pending);
  ~Generation() override;

  /// Everything has reached the target.
  bool complete() const { return pending_->dirty_count() == 0 && sync_.ledger.idle(); }
  /// It is no point in time any more; why.
  bool torn() const { return torn_; }
  const std::string& why() const { return why_; }
  /// What it still needs is not needed any more: marked dirty again for a later pass, and no write
  /// waits for it. A generation that is not complete is torn by it.
  void give_up(const std::string& why);
  /// Waits until no request of the guest is inside: after detaching, before destruction.
  Task<void> wait_empty();
  /// The job copies, or it waits: then no room will come, and no write waits for it for longer than
  /// the mirror's deadline.
  void set_copied(bool copied);
  const GenerationStats& stats() const { return stats_; }

  // WriteMirror: the source only.
  Task<Status> write(BlockDevice& store, std::uint64_t offset, ConstBytes from, WriteFlags flags,
                     MirrorVisit& visit) override;
  Task<Status> write_zeroes(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                            ZeroFlags flags, MirrorVisit& visit) override;
  Task<Status> trim(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                    WriteFlags flags) override;
  Task<Status> flush(BlockDevice& store) override;

  // CopySource.
  DirtyBitmap& chunks() override { return *pending_; }
  const DirtyBitmap& chunks() const { return *pending_; }
  std::optional<std::uint64_t> urgent() const override;
  Task<Status> read(ByteRange range, MutableBytes into) override;
  void copied(const std::vector<std::uint32_t>& chunks) override;

 private:
  struct Kept {
    explicit Kept(std::uint64_t size) : content(size) {}
    Buffer content;
    bool complete = false;
  };
  enum class Need : unsigned char { kNothing, kWait, kRoom };
  bool needed(std::uint32_t chunk) const;
  bool being_read(ByteRange range) const;
  Need keep_old(ByteRange range);
  Task<void> preserve(ByteRange range);
  Task<void> keep(std::uint32_t chunk, std::shared_ptr<Kept> kept);
  Task<Status> read_store(ByteRange range, MutableBytes into);
  Duration patience() const;
  void tear(const std::string& why);

  EventLoop& loop_;
  SyncState& sync_;
  BlockDevice& store_;
  const JobOptions& options_;
  std::unique_ptr<DirtyBitmap> pending_;  ///< of this generation, and not with the copier
  std::map<std::uint32_t, std::shared_ptr<Kept>> kept_;
  std::uint64_t kept_bytes_ = 0;
  std::list<ByteRange> reading_;  ///< from the store, by the copier
  Event changed_;                 ///< pulsed when a chunk was kept, read, acknowledged, or it tore
  TaskScope keeping_;
  std::uint64_t inside_ = 0;
  GenerationStats stats_;
  std::string why_;
  bool torn_ = false;
  bool copied_ = true;
};

}  // namespace blockmig
