// SPDX-License-Identifier: Apache-2.0
// blockmig verify: compares two stores or disks byte by byte.
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "blockmig/base/units.h"
#include "blockmig/base/uri.h"
#include "blockmig/block/open_store.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/run_task.h"
#include "tools/cli/commands.h"
#include "tools/cli/compare.h"
#include "tools/cli/progress.h"
#include "tools/daemon/image_format.h"

namespace blockmig {
namespace {

/// A disk's name stands for what its clients see.
Result<StoreUri> find_uri(const std::string& name, const CommandContext& context) {
  const bool is_path = name.find('/') != std::string::npos || access(name.c_str(), F_OK) == 0;
  if (is_path || !check_name("disk", name)) return parse_store_uri(name);
  if (!context.daemon_listens) {
    return Error(ErrorCode::kNotFound,
                 "there is no file '" + name + "', and no daemon that might serve such a disk");
  }
  const Result<std::string> answer = ask(*context.daemon, "GET", disk_path(name));
  if (!answer && answer.error().code() == ErrorCode::kNotFound) {
    return answer.error().with_context("there is no file '" + name + "', and");
  }
  if (!answer) return answer.error();
  const Result<DiskView> disk = disk_from_json(*answer);
  if (!disk) return disk.error();
  if (disk->uris.empty()) {
    return Error(ErrorCode::kPrecondition, "disk '" + name + "' is not offered at any address");
  }
  return parse_store_uri(disk->uris[0]);
}

Result<StoreUri> find_image(const std::string& name, const TlsClient& tls,
                            const CommandContext& context) {
  const Result<StoreUri> uri = find_uri(name, context);
  return uri.ok() ? with_credentials(*uri, tls) : uri;
}

Task<Result<std::unique_ptr<BlockDevice>>> open_image(IoLoop& loop, const StoreUri& uri) {
  OpenStoreOptions options;
  options.file.read_only = true;
  options.file.lock = false;  // only looking; a disk that is being served can be compared too
  options.nbd.read_only = true;
  Result<std::unique_ptr<BlockDevice>> image = co_await open_store(loop, uri, options);
  co_return std::move(image);
}

/// A guest may have put that there; who says format=raw knows.
Task<void> warn_of_format(BlockDevice& image, const StoreUri& uri) {
  if (uri.kind != StoreUri::Kind::kFile || uri.query.contains("format")) co_return;
  const std::string_view format = co_await look_for_format(image);
  if (format.empty()) co_return;
  std::fprintf(
      stderr,
      "blockmig: %s looks like a %.*s image, and is compared as it is, raw: to compare what "
      "is in it, serve it with qemu-nbd and name that\n",
      uri.text.c_str(), static_cast<int>(format.size()), format.data());
}

void show_progress(const Terminal& terminal, std::uint64_t done, std::uint64_t total, int* last) {
  if (!terminal.interactive || total == 0) return;
  const auto percent = static_cast<int>(done * 100 / total);
  if (percent == *last) return;
  *last = percent;
  std::fprintf(stderr, "\r\x1b[Kcomparing, %d %%, %s of %s", percent, format_bytes(done).c_str(),
               format_bytes(total).c_str());
  if (done == total) std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
}

Task<Result<CompareReport>> compare(IoLoop& loop, const StoreUri& a, const StoreUri& b) {
  Result<std::unique_ptr<BlockDevice>> first = co_await open_image(loop, a);
  if (!first) co_return first.error();
  Result<std::unique_ptr<BlockDevice>> second = co_await open_image(loop, b);
  const Terminal terminal = Terminal::of_stderr();
  int last_percent = -1;
  Result<CompareReport> report = Error(ErrorCode::kInvalid);
  if (second.ok()) {
    co_await warn_of_format(**first, a);
    co_await warn_of_format(**second, b);
    ImageComparison comparison(loop, **first, **second,
                               [&](std::uint64_t done, std::uint64_t total) {
                                 show_progress(terminal, done, total, &last_percent);
                               });
    Result<CompareReport> compared = co_await comparison.run();
    report = std::move(compared);
    const Status closed = co_await (*second)->close();
    if (!closed && report.ok()) report = closed.error();
  } else {
    report = second.error();
  }
  const Status closed = co_await (*first)->close();
  if (!closed && report.ok()) report = closed.error();
  if (report.ok()) {
    report->a.uri = a.text;
    report->b.uri = b.text;
  }
  co_return std::move(report);
}

std::string report_text(const CompareReport& report) {
  const auto side = [](const CompareReport::Side& image) {
    return "  " + image.digest + "  " + std::to_string(image.size_bytes) + " bytes  " + image.uri +
           "\n";
  };
  const std::string sides = side(report.a) + side(report.b);
  if (report.equal) return "equal\n" + sides;
  std::string text = "different: first at byte " + std::to_string(report.first_difference);
  text += ", " + std::to_string(report.different_chunks) +
          (report.different_chunks == 1 ? " chunk of " : " chunks of ") +
          format_bytes(report.chunk_bytes) +
          (report.different_chunks == 1 ? " differs" : " differ");
  if (report.a.size_bytes != report.b.size_bytes) text += ", and so do the sizes";
  return text + "\n" + sides;
}

}  // namespace

ExitCode run_verify(const CommandLine& command, const CommandContext& context) {
  const Result<StoreUri> a = find_image(command.subject, command.tls, context);
  if (!a) return report(a.error());
  const Result<StoreUri> b = find_image(command.object, command.tls, context);
  if (!b) return report(b.error());
  const Result<std::unique_ptr<IoLoop>> loop = make_io_loop(IoLoopOptions{});
  if (!loop) return report(loop.error());
  const Result<CompareReport> compared = run_task(**loop, compare(**loop, *a, *b));
  if (!compared) return report(compared.error());
  switch (command.format) {
    case OutputFormat::kJson:
      print(to_json(*compared, JsonStyle::kPretty) + "\n");
      break;
    case OutputFormat::kJsonLines:
      print(to_json(*compared, JsonStyle::kCompact) + "\n");
      break;
    case OutputFormat::kTable:
    case OutputFormat::kWide:
      print(report_text(*compared));
      break;
  }
  if (compared->equal) return ExitCode::kOk;
  std::fprintf(stderr, "blockmig: %s and %s differ\n", compared->a.uri.c_str(),
               compared->b.uri.c_str());
  return ExitCode::kMismatch;
}

}  // namespace blockmig
