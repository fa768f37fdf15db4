// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "blockmig/base/units.h"

namespace blockmig {
namespace {

constexpr auto kPlainInterval = std::chrono::seconds(1);
constexpr std::size_t kBarCells = 20;

bool variable_is_set(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets any
  return value != nullptr && *value != '\0';
}

Duration from_ms(double milliseconds) {
  return Duration(static_cast<Duration::rep>(milliseconds * 1e6));
}

std::string percent(const JobStatus& job) {
  return std::to_string(static_cast<int>(std::floor(fraction_done(job) * 100))) + " %";
}

/// Until the rest is copied at the present rates; empty if that is not in sight.
std::string eta_text(const JobStatus& job) {
  if (job.phase != Phase::kCopying && job.phase != Phase::kMirroring &&
      job.phase != Phase::kHydrating) {
    return {};
  }
  const std::uint64_t gain = job.rate_bytes_per_second > job.dirty_rate_bytes_per_second
                                 ? job.rate_bytes_per_second - job.dirty_rate_bytes_per_second
                                 : 0;
  if (gain == 0 || job.remaining_bytes == 0) return {};
  return ", ETA " + format_duration(std::chrono::seconds(job.remaining_bytes / gain + 1));
}

std::string phase_text(const JobStatus& job) {
  std::string text(job.state == JobState::kPaused ? "paused" : to_string(job.phase));
  if (job.passes > 0) text += " pass " + std::to_string(job.passes);
  return text;
}

/// At most so many bytes of UTF-8, no character in part ("µs").
std::string cut_text(const std::string& text, std::size_t bytes) {
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

/// Everything after the percentage.
std::string figures(const JobStatus& job) {
  const bool hydrating = job.phase == Phase::kHydrating;
  std::string text = format_bytes(hydrating ? job.bytes_hydrated : job.bytes_copied) + " of " +
                     format_bytes(job.bytes_total) + ", " + format_rate(job.rate_bytes_per_second);
  if (job.dirty_rate_bytes_per_second > 0) {
    text += ", dirty " + format_rate(job.dirty_rate_bytes_per_second);
  }
  if (job.remaining_bytes > 0) text += ", left " + format_bytes(job.remaining_bytes);
  text += eta_text(job);
  if (!job.depends_on.empty()) text += ", depends on " + job.depends_on;
  if (hydrating && job.error) text += ", held up: " + job.error->message();
  if (job.throttle_bytes_per_second > 0) {
    text += ", writes held to " + format_rate(job.throttle_bytes_per_second);
  }
  if (job.predicted_downtime_ms > 0 && !is_final(job.state)) {
    text += ", downtime about " + format_duration(from_ms(job.predicted_downtime_ms));
  }
  return text;
}

}  // namespace

Terminal Terminal::of_stderr() {
  Terminal terminal;
  const char* kind = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe)
  const bool dumb = kind == nullptr || std::string_view(kind) == "dumb";
  terminal.interactive = isatty(STDERR_FILENO) == 1 && !dumb;
  terminal.colour = terminal.interactive && !variable_is_set("NO_COLOR");
  winsize size{};
  if (terminal.interactive && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    terminal.columns = size.ws_col;
  }
  return terminal;
}

double fraction_done(const JobStatus& job) {
  if (job.state == JobState::kDone) return 1;
  if (job.phase == Phase::kPreparing) return 0;
  const std::uint64_t total = std::max(job.bytes_total, job.remaining_bytes);
  if (total == 0) return is_final(job.state) ? 0 : 1;  // ended before its target was open
  return static_cast<double>(total - job.remaining_bytes) / static_cast<double>(total);
}

std::string progress_text(const JobStatus& job) {
  return phase_text(job) + ", " + percent(job) + ", " + figures(job);
}

std::string progress_bar(const JobStatus& job, const Terminal& terminal) {
  const auto cells = static_cast<std::size_t>(fraction_done(job) * double{kBarCells});
  std::string line = phase_text(job) + " [" + std::string(cells, '#') +
                     std::string(kBarCells - cells, '.') + "] " + percent(job) + ", " +
                     figures(job);
  // One less, or some terminals wrap.
  if (line.size() + 1 > terminal.columns) line = cut_text(line, terminal.columns - 1);
  if (!terminal.colour) return line;
  const std::size_t phase_bytes = std::min(phase_text(job).size(), line.size());
  return "\x1b[36m" + line.substr(0, phase_bytes) + "\x1b[0m" + line.substr(phase_bytes);
}

std::string target_digest_text(const JobStatus& job) {
  if (job.target_digest.empty() || job.read_back) return job.target_digest;
  return job.target_digest + " (of what it took; --verify full reads it back)";
}

std::string saved_text(const JobStatus& job) {
  std::string text = format_bytes(job.bytes_zero) + " of zeros";
  if (job.bytes_unchanged > 0) {
    text += ", " + format_bytes(job.bytes_unchanged) + " of holes or unchanged";
  }
  if (job.bytes_at_rest > 0) text += ", " + format_bytes(job.bytes_at_rest) + " at rest";
  return text;
}

std::string summary_text(const JobStatus& job, Outcome outcome) {
  const bool copied = outcome == Outcome::kCopied;
  std::string text = job.id + " " + std::string(to_string(job.state)) + ": " +
                     (copied ? "" : "disk '" + job.disk + "' ");
  if (job.point_in_time) {
    text += job.since_bitmap.empty() ? "copied" : "changes since '" + job.since_bitmap + "' copied";
    text += " as of one instant to " + job.target_uri + "; it stays on " + job.source_uri;
  } else {
    text += (copied ? "copied " : "moved from ") + job.source_uri + " to " + job.target_uri;
  }
  text += "\n";
  const double seconds = std::max(job.elapsed_seconds, 1e-3);
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(job.bytes_copied) / seconds);
  text += "  mode " + std::string(to_string(job.mode));
  if (job.active_mode != job.mode) {
    text += " (ended as " + std::string(to_string(job.active_mode)) + ")";
  }
  text += ", " + format_duration(from_ms(job.elapsed_seconds * 1000)) + ", " +
          std::to_string(job.passes) + (job.passes == 1 ? " pass" : " passes") + ", epoch " +
          std::to_string(job.epoch) + "\n";
  text += "  copied " + format_bytes(job.bytes_copied) + " (" + format_rate(rate) + "), mirrored " +
          format_bytes(job.bytes_mirrored) + "; not sent: " + saved_text(job) + "\n";
  if (job.bytes_hydrated + job.bytes_spared > 0) {
    text += "  fetched afterwards " + format_bytes(job.bytes_hydrated) +
            " (pulls: " + std::to_string(job.pulls_demanded) + " demanded, " +
            std::to_string(job.pulls_prefetched) + " prefetched, " +
            std::to_string(job.pulls_pushed) + " pushed), overwritten before " +
            format_bytes(job.bytes_spared) + "\n";
  }
  text += "  stall " + format_duration(from_ms(job.stall_ms)) + ", longest request " +
          format_duration(from_ms(job.longest_request_ms)) + ", request p99 " +
          format_duration(from_ms(job.guest_p99_ms)) +
          (job.guest_before.requests == 0
               ? "\n"
               : " (before " + format_duration(from_ms(job.guest_before.p99_ms)) + ")\n");
  if (job.switchovers_postponed > 0) {
    text += "  switchovers postponed " + std::to_string(job.switchovers_postponed) +
            ", the gate was closed for " + format_duration(from_ms(job.postponed_ms)) + "\n";
  }
  text += decisions_text(job);
  if (!job.source_digest.empty()) text += "  digest source " + job.source_digest + "\n";
  if (!job.target_digest.empty()) text += "  digest target " + target_digest_text(job) + "\n";
  return text;
}

std::string place_text(const JobStatus& job) {
  const std::string disk = "disk '" + job.disk + "' ";
  if (job.switched) return disk + "is on " + job.target_uri + " already";
  // Of a job of an earlier daemon that is not known.
  if (job.source_uri.empty()) return disk + "is still where it was";
  if (!job.owner_unknown) return disk + "is still on " + job.source_uri;
  return disk + "is on " + job.source_uri + " or on " + job.target_uri +
         ": keep both, and start the daemon again, which reads from its journal on which";
}

std::string decisions_text(const JobStatus& job) {
  std::string text;
  for (const Decision& decision : job.decisions) {
    text += "  after " + format_duration(from_ms(decision.at_seconds * 1000)) + ": " +
            decision.what + ", because " + decision.why + "\n";
  }
  if (job.decisions_dropped > 0) {
    text += "  and " + std::to_string(job.decisions_dropped) + " in between, not kept\n";
  }
  return text;
}

void ProgressDisplay::show(const JobStatus& job) {
  if (terminal_.interactive) {
    const std::string line = progress_bar(job, terminal_);
    std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
    std::fflush(stderr);
    drawn_ = true;
    return;
  }
  // The first line comes after the first interval: a job that is quicker needs none.
  const auto now = std::chrono::steady_clock::now();
  if (now - last_shown_ < kPlainInterval) return;
  const std::string line = progress_text(job);
  if (line == last_line_) return;
  std::fprintf(stderr, "%s: %s\n", job.id.c_str(), line.c_str());
  last_line_ = line;
  last_shown_ = now;
}

void ProgressDisplay::clear() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace blockmig
