// SPDX-License-Identifier: Apache-2.0
// Takeover: disks and clients of a handover on their way in, and disks of the command line.
//
//   open_disks()      all of them, side by side; guests wait meanwhile, so not for long
//   resume_clients()  those whose disk is there go on; the others stay connected, and wait
//   from then on      a late disk is tried until its store is back, and then its clients go on
//   open_wanted()     disks that the user names at the start: late ones are tried like these
//
// Until then its name is taken, and it goes along in the next handover, if it comes to that.
// Lifecycle: one handover; finish(), then opening() joined or given up, before it is destroyed.
// Thread rule: the loop. What it refers to outlives it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "nbdserver/server.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/handover.h"
#include "tools/daemon/log.h"

namespace blockmig {

class Takeover final {
 public:
  /// Shorter than an NBD store that says nothing is tried: then the other disks go on without it.
  static constexpr Duration kPatience = std::chrono::seconds(3);

  Takeover(EventLoop& loop, DiskService& service, NbdServer& server, Log& log)
      : loop_(loop),
        service_(service),
        server_(server),
        log_(log),
        changed_(loop),
        going_on_(loop),
        leaving_(loop) {}

  /// Those that are not there after kPatience are late, and named in the log. kAll: an error if one
  /// cannot be opened and none hangs, since a way back leads only where everything answers.
  Task<Status> open_disks(const std::vector<HandoverDisk>& disks, ResumedDisks which);
  /// One after the other as long as each is in time. Those that cannot be opened are named in the
  /// log and tried again, and so are those that hang. `alone`: there is nothing else to serve; an
  /// error if nothing is, and nothing hangs, or where what the user says cannot be (kInvalid).
  Task<Status> open_wanted(std::vector<ServeRequest> disks, bool alone);
  /// As NbdServer::resume(), but for clients of late disks.
  Status resume_clients(ParkedServer parked);

  /// Of no name: any is.
  bool is_late(const std::string& disk) const {
    return disk.empty() ? !coming_.empty() : coming_.contains(disk);
  }
  std::vector<HandoverDisk> late() const;
  /// It is the user's at this start, not of the daemon before.
  bool is_wanted(const std::string& disk) const;
  /// Nothing is open of it that another daemon would meet.
  bool has_failed(const std::string& disk) const;
  std::size_t waiting_clients() const;
  /// Of late disks; to be handed on with them, or given back by resume_clients().
  std::vector<ParkedClient> take_clients();
  /// The disk is not wanted any more: its clients are cut. False: it is not late.
  bool give_up(const std::string& disk);
  /// From here on nothing is tried again.
  void finish();
  TaskScope& opening() { return opening_; }
  const TaskScope& opening() const { return opening_; }

 private:
  struct Coming {
    HandoverDisk disk;
    std::optional<Error> failure;  ///< of its last try; none: under way still
    std::vector<ParkedClient> clients;
    bool wanted = false;  ///< by the user, at this start
    bool named = false;   ///< in the log, as late
  };
  Task<void> bring(std::string name);
  Task<Status> open(const HandoverDisk& disk);
  Task<void> arrive(const std::string& name);
  void fail(const std::string& name, const Error& error);
  /// Nothing is to be waited for any more.
  bool is_settled(ResumedDisks which) const;
  bool is_under_way(const std::string& name) const;
  Status judge_wanted(const std::vector<ServeRequest>& disks) const;
  void name_late(const std::string& name, Coming& coming);

  EventLoop& loop_;
  DiskService& service_;
  NbdServer& server_;
  Log& log_;
  std::map<std::string, Coming> coming_;  ///< by disk
  Event changed_;                         ///< pulsed when one has arrived, or failed
  Event going_on_;                        ///< set when what fails is to be tried again
  Event leaving_;
  TaskScope opening_;
};

}  // namespace blockmig
