// SPDX-License-Identifier: Apache-2.0
// What --help says besides the options. Only for command_line.cc and command_options.cc.
#pragma once

namespace blockmig {

inline constexpr const char* kDescription =
    "Moves live disks between stores: files, block devices, NBD servers.\n"
    "Clients stay attached by NBD and keep reading and writing while their disk moves.";

inline constexpr const char* kSetFooter = R"(
What is set is remembered over a restart of the daemon, until the job ends.

With a limit of the daemon, jobs that copy share it by priority, 1:4:16, and what one leaves is
the others'. Without one, a job has fewer copies in flight while jobs of higher priority copy: a
quarter of --copy-depth below one step, a sixteenth below two.

  blockmig set vm1 bwlimit=50MiB/s priority=low
  blockmig set vm1 max-downtime=500ms     (its status says when the target's flush needs that)
  blockmig set --daemon bwlimit=200MiB/s
)";

inline constexpr const char* kStatusFooter = R"(
Examples:
  blockmig status
  blockmig status vm1 -w                 (the latest job of this disk, until it has ended)
  blockmig status job-3 -o json)";

inline constexpr const char* kListFooter = R"(
Examples:
  blockmig ls disks -o wide
  blockmig ls clients -o jsonl)";

inline constexpr const char* kMetricsFooter = R"(
The daemon answers scrapes itself with 'blockmigd --metrics tcp:127.0.0.1:9464'.)";

inline constexpr const char* kJobFooter = R"(
Examples, for abort, pause and resume alike:
  blockmig pause vm1
  blockmig resume job-3)";

inline constexpr const char* kDisconnectFooter = R"(
Examples:
  blockmig ls clients
  blockmig disconnect 7

What its store has begun for it ends first, and until then 'blockmig ls clients' has it. What it has
sent besides is thrown away. It may connect again.)";

inline constexpr const char* kDetachFooter = R"(
Examples:
  blockmig detach vm1
  blockmig detach vm1 --forget           (where its content lives is not known any more)

Clients are disconnected, and the store is flushed and free for others.)";

inline constexpr const char* kStopFooter = R"(
Disks are flushed and closed, moves suspended until the next start: 'blockmigd' takes them up.)";

inline constexpr const char* kTopicFooter = R"(
Examples:
  blockmig help migrate
  blockmig help bitmap add
  blockmig help limits)";

inline constexpr const char* kFooter = R"(
Try it, nothing to configure:
  blockmig serve vm1 --source /srv/a/vm1.img
  blockmig migrate vm1 --to /srv/b/vm1.img
  blockmig migrate old.img --to new.img          (a copy, no daemon needed)

A STORE is a path, file:///PATH, nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH or
nbd+vsock://CID[:PORT]/EXPORT; with TLS nbds://, nbds+unix:// or nbds+vsock://, each with USER@
for a pre-shared key; for measuring null:SIZE, which keeps nothing.
Sizes: 64KiB, 1.5GiB. Rates: 200MiB/s, from 1KiB/s. Times: 100ms, 30s, 5min.

Exit codes: 0 done, 1 failed, 2 usage, 3 not converged or timeout, 4 not found, 5 locked or
busy, 6 verification found a difference, 7 no daemon answers, 8 aborted (the disk is still on
its source), 9 a precondition (space, size, version), 130 interrupted (the job goes on),
141 nobody reads the output any more.)";

inline constexpr const char* kServeFooter = R"(
Examples:
  blockmig serve vm1 --source /srv/a/vm1.img
  blockmig serve vm1 --source new.img --create-size 20GiB --listen unix:/run/vm1.sock
  blockmig serve vm1                     (again, from where the last move has put it)

Adds the disk to the daemon of the state folder if one runs; otherwise becomes that daemon,
in the foreground. Daemon options are for that case only; --listen is for both.)";

inline constexpr const char* kKeepRecordHelp =
    "record what changes after the move, so that the disk can go back with --mode return";

inline constexpr const char* kMigrateFooter = R"(
Examples:
  blockmig migrate vm1 --to /mnt/fast/                     (same file name in that folder)
  blockmig migrate vm1 --to nbd+unix:///?socket=/run/q.sock --mode dbt --bwlimit 200MiB/s
  blockmig migrate old.img --to new.img                    (no such disk, but a file: a copy)

Modes:
  auto      measures the guest and the target, and is dbt or mirror, whichever meets the limits
  cold      writers are parked for the whole copy, readers go on
  snapshot  generations of one instant each; every one leaves a usable image
  dbt       passes over what was written, until the rest fits --max-downtime
  mirror    one pass; writes behind it go to both sides
  postcopy  switchover first; what is absent is fetched from the old store
  hybrid    one pass over the cold data, then the switchover; the rest is fetched
  shared    what was used lately moves; the rest stays in its folder and is fetched from there
  return    back to the store that the disk has left: only what has changed since

A guest that is faster than the target: cold, postcopy and hybrid end in any case; of the others
--on-stall says what they do. By default dbt, mirror, auto, snapshot and return go on as mirror,
and shared throttles the guest. A snapshot whose buffer is full is given up and begun anew (a
--point-in-time copy fails), unless --on-stall throttle lets writes wait for room.

A target whose every flush takes longer than --max-downtime (a disk, NFS, Ceph): cold, postcopy and
hybrid end all the same; the others when the guest writes nothing for as long as a flush takes. The
status says so; 'blockmig set DISK max-downtime=500ms' helps, --on-stall fail gives up.

Ctrl-C ends the waiting, not the job.)";

inline constexpr const char* kSettleFooter = R"(
Examples:
  blockmig settle vm1                       (fetch the rest: the folder is not needed any more)
  blockmig settle vm1 --into /srv/folder    (write what is new back; the disk runs from there)

Both work while the disk is in use, and can be run again after a crash. With --into only what the
image lacks is written to it, and the disk's own store is left behind when everything is there.)";

inline constexpr const char* kBackupFooter = R"(
Examples:
  blockmig backup vm1 /backup/vm1.img --bitmap mon              (everything)
  blockmig backup vm1 /backup/vm1.img --since mon --bitmap tue  (what changed; then:)
  blockmig bitmap rm vm1 mon

The copy is the disk of one instant, whatever is written meanwhile; the disk stays where it is.
TARGET.blockmig-backup says which instant: with --since, TARGET must be a copy about which the
bitmap says everything that changed, and becomes the disk of the later instant. Until then it is
'incomplete' there, and no disk of any instant. The bitmap keeps its marks: after a failure the
same command again completes the copy. To keep the earlier copy, copy both files first, with
cp -p --reflink=auto. To restore, serve or copy TARGET: it is a raw image.)";

inline constexpr const char* kForceOwnFooter = R"(
Beside each image lies IMAGE.blockmig-owner, which says whose it is. A daemon that was killed
takes its images up again by itself; another one is refused, and the refusal names epoch and
owner. Repeat them here only when you know that the owner will never write to the image again
and that no newer store of the disk exists: what is there would be lost. Without them, this
command says what they are and changes nothing. It refuses while a living process has the
image.)";

inline constexpr const char* kVerifyFooter = R"(
Examples:
  blockmig verify /srv/a/vm1.img /srv/b/vm1.img
  blockmig verify vm1 nbd://backup.example.com/vm1 -o json

Compares sizes and every byte; exit code 6 and the first difference where they differ. A name
without a slash that is no file is a disk of the daemon, as its clients see it. The --tls
options are for disks and stores with TLS (nbds) whose URI does not say them itself.)";

inline constexpr const char* kBitmapFooter = R"(
Examples:
  blockmig bitmap add vm1 daily
  blockmig bitmap add vm1 week --disabled
  blockmig bitmap merge vm1 week daily
  blockmig bitmap ls vm1

A bitmap marks which chunks were written since it was added. Clients read it as
qemu:dirty-bitmap:NAME. It goes with the disk in every move, and over every restart: after a
crash it marks all that was written, and the 4 MiB regions around what was written last.
With --transient it is gone when the daemon ends, as in QEMU without persistent=true. One that
cannot be trusted any more is inconsistent: it can only be removed. A merged chunk marks every
chunk of the target that it overlaps.)";

inline constexpr const char* kManifestFooter = R"(
Examples:
  blockmig manifest make /mnt/folder/vm1.img
  blockmig manifest check /mnt/folder/vm1.img

A manifest holds the digest of every chunk of an image at rest: 'manifest check' compares the
image with it. 'migrate --mode shared' writes its own. Exit code 6: the image is not what its
manifest says.)";

}  // namespace blockmig
