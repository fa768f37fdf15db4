// SPDX-License-Identifier: Apache-2.0
// blockmig manifest: the digests of an image at rest, made, checked and shown without a daemon.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "blockmig/base/units.h"
#include "blockmig/block/file_device.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/run_task.h"
#include "sharedfs/image_scan.h"
#include "sharedfs/manifest_file.h"
#include "tools/cli/commands.h"
#include "tools/cli/progress.h"

namespace blockmig {
namespace {

/// Reads the whole image, which nobody may write meanwhile.
Task<Result<ChunkDigests>> read_image(IoLoop& loop, const std::string& path) {
  FileDeviceOptions options;
  options.read_only = true;
  auto opened = co_await open_file_device(loop, path, options);
  if (!opened && opened.error().code() == ErrorCode::kBusy) {
    co_return Error(ErrorCode::kBusy,
                    opened.error().message() + ": a manifest is made of an image at rest");
  }
  if (!opened) co_return opened.error();
  const std::unique_ptr<BlockDevice> device = *std::move(opened);
  const std::uint64_t size = device->info().size_bytes;
  ChunkDigests digests(size);
  const Terminal terminal = Terminal::of_stderr();
  ScanOptions scan;
  int last_percent = -1;
  scan.progress = [&](std::uint64_t done) {
    if (!terminal.interactive || size == 0) return;
    const auto percent = static_cast<int>(done / (size / 100 + 1));
    if (std::exchange(last_percent, percent) == percent) return;
    std::fprintf(stderr, done == size ? "\r\x1b[K" : "\r\x1b[Kreading, %d %% of %s", percent,
                 format_bytes(size).c_str());
    std::fflush(stderr);
  };
  const Status scanned = co_await scan_image(loop, *device, digests, std::move(scan));
  const Status closed = co_await device->close();
  if (!scanned) co_return scanned.error().with_context(path);
  if (!closed) co_return closed.error();
  co_return std::move(digests);
}

Result<ChunkDigests> read_image(const std::string& path) {
  const Result<std::unique_ptr<IoLoop>> loop = make_io_loop(IoLoopOptions{});
  if (!loop) return loop.error();
  return run_task(**loop, read_image(**loop, path));
}

ManifestReport describe(const std::string& path, const Manifest& manifest) {
  ManifestReport report;
  report.image = path;
  report.size_bytes = manifest.size_bytes();
  report.generation = manifest.generation;
  report.owner = manifest.owner;
  report.owner_epoch = manifest.owner_epoch;
  report.changing = manifest.changing;
  report.chunk_bytes = ChunkDigests::kChunkBytes;
  report.unknown_chunks = manifest.digests.unknown_chunks();
  for (const ChunkDigests::Run& run : manifest.digests.runs()) {
    if (run.known) report.known_chunks += run.count;
  }
  if (report.unknown_chunks == 0 && !report.changing)
    report.digest = manifest.digests.image().hex();
  return report;
}

std::string text_of(const ManifestReport& report) {
  std::string text = report.image + ": " + format_bytes(report.size_bytes) + ", generation " +
                     std::to_string(report.generation) + "\n";
  text += "  owner    " +
          (report.owner_epoch == 0
               ? std::string("none")
               : "disk '" + report.owner + "', epoch " + std::to_string(report.owner_epoch)) +
          (report.changing ? ", which is on its way out of it or back" : "") + "\n";
  text += "  chunks   " + std::to_string(report.known_chunks) + " with a digest, " +
          std::to_string(report.unknown_chunks) + " changed since, of " +
          format_bytes(report.chunk_bytes) + "; the rest is zeros\n";
  if (!report.digest.empty()) text += "  digest   " + report.digest + "\n";
  if (report.checked && report.wrong_chunks == 0) text += "  checked  every chunk is right\n";
  return text;
}

ExitCode show(const CommandLine& command, const ManifestReport& report) {
  if (command.format == OutputFormat::kJson || command.format == OutputFormat::kJsonLines) {
    const bool pretty = command.format == OutputFormat::kJson;
    print(to_json(report, pretty ? JsonStyle::kPretty : JsonStyle::kCompact) + "\n");
  } else {
    print(text_of(report));
  }
  if (report.trouble.empty()) return ExitCode::kOk;
  std::fprintf(stderr, "blockmig: %s\n", report.trouble.c_str());
  return ExitCode::kMismatch;
}

ExitCode make(const CommandLine& command, const std::string& path) {
  std::uint64_t generation = 1;
  const Result<Manifest> before = load_manifest(path);
  if (before.ok()) {
    generation = before->generation + 1;
    if (before->owner_epoch != 0 && !command.force) {
      return report(Error(ErrorCode::kPrecondition,
                          "disk '" + before->owner + "' depends on generation " +
                              std::to_string(before->generation) + " of " + path +
                              ": settle it first ('blockmig settle'), or use --force"));
    }
  } else if (before.error().code() != ErrorCode::kNotFound && !command.force) {
    return report(before.error().with_context("the manifest that is there (see --force)"));
  }
  const Result<ImageFacts> facts = look_at_image(path);
  if (!facts) return report(facts.error());
  Result<ChunkDigests> digests = read_image(path);
  if (!digests) return report(digests.error());
  Manifest manifest(digests->size_bytes());
  manifest.generation = generation;
  manifest.image = facts->identity;
  manifest.digests = *std::move(digests);
  const Status same = check_identity(path, manifest, true);
  if (!same) return report(same.error().with_context("the image changed while it was read"));
  const Status saved = save_manifest(path, manifest);
  if (!saved) return report(saved.error());
  return show(command, describe(path, manifest));
}

void compare(const Manifest& manifest, const ChunkDigests& found, ManifestReport& report) {
  report.checked = true;
  const std::uint64_t chunks = std::min(manifest.digests.chunk_count(), found.chunk_count());
  for (std::uint64_t chunk = 0; chunk < chunks;) {
    // What is zeros in both need not be looked at one by one.
    if (manifest.digests.is_zero(chunk) && found.is_zero(chunk)) {
      chunk += std::min(manifest.digests.alike(chunk, chunks), found.alike(chunk, chunks));
      continue;
    }
    const auto expected = manifest.digests.find(chunk);
    if (expected && found.find(chunk) != expected) {
      if (report.wrong_chunks++ == 0) report.first_wrong = chunk * report.chunk_bytes;
    }
    ++chunk;
  }
}

ExitCode check(const CommandLine& command, const std::string& path) {
  Result<Manifest> manifest = load_manifest(path);
  if (!manifest) return report(manifest.error());
  if (manifest->changing && manifest->owner.empty()) {
    return report(Error(ErrorCode::kPrecondition,
                        path +
                            " was taken by force while a disk was on its way out of it, or back: "
                            "it was a mixture then; 'blockmig manifest make' says what it is now"));
  }
  if (manifest->changing) {
    return report(Error(ErrorCode::kPrecondition,
                        "disk '" + manifest->owner + "' is being settled into " + path +
                            ", or has just left it: what it holds is known "
                            "when that has ended"));
  }
  const Result<ImageFacts> facts = look_at_image(path);
  if (!facts) return report(facts.error());
  const Status identity = check_identity(path, *manifest, false);
  const Result<ChunkDigests> digests = read_image(path);
  if (!digests) return report(digests.error());
  ManifestReport found = describe(path, *manifest);
  compare(*manifest, *digests, found);
  const bool same_size = digests->size_bytes() == manifest->size_bytes();
  if (found.wrong_chunks != 0) {
    found.trouble = path + " is not what its manifest says: " + std::to_string(found.wrong_chunks) +
                    " chunks differ, the first at offset " + std::to_string(found.first_wrong);
  } else if (!identity && !(command.adopt && same_size)) {
    found.trouble = identity.error().message();
  } else if (!identity) {
    manifest->image = facts->identity;
    const Status saved = save_manifest(path, *manifest);
    if (!saved) return report(saved.error());
  }
  return show(command, found);
}

}  // namespace

ExitCode run_manifest(const CommandLine& command) {
  const std::string path = std::filesystem::absolute(command.subject).lexically_normal().string();
  if (command.verb == Verb::kManifestMake) return make(command, path);
  if (command.verb == Verb::kManifestCheck) return check(command, path);
  const Result<Manifest> manifest = load_manifest(path);
  if (!manifest) return report(manifest.error());
  ManifestReport found = describe(path, *manifest);
  const Status identity = check_identity(path, *manifest, true);
  if (!identity) found.trouble = identity.error().message();
  return show(command, found);
}

}  // namespace blockmig
