// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/choose_mode.h"

#include <algorithm>

#include "blockmig/base/units.h"

namespace blockmig {
namespace {

/// Of what the target takes: more leaves no room for what was not foreseen.
constexpr double kHeadroom = 0.8;

double share(std::uint64_t part, std::uint64_t whole) {
  return static_cast<double>(part) / static_cast<double>(std::max<std::uint64_t>(whole, 1));
}

Duration time_for(double bytes, std::uint64_t rate) {
  const double seconds = bytes / static_cast<double>(std::max<std::uint64_t>(rate, 1));
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::min(seconds, 1e6)));
}

struct Prediction {
  Duration downtime{};
  Duration total{};
  bool converges = false;
};

/// Passes shrink by the share of the target that the guest dirties again. Where that is no
/// shrinking, what remains in the end is what the guest writes again and again, and as long as it
/// writes elsewhere as fast as the target takes it, everything.
Prediction predict_dbt(const ModeInputs& in) {
  const double ratio = share(in.dirty_rate, in.target_rate);
  Prediction prediction;
  const double shrinking = std::min(ratio, kHeadroom);
  prediction.total =
      time_for(static_cast<double>(in.remaining_bytes) / (1 - shrinking), in.target_rate);
  if (ratio >= kHeadroom) {
    std::uint64_t rest = in.hot_bytes;
    // Not known: as if every write of a second went elsewhere.
    if (!in.heat_is_known) rest = std::max(rest, std::min(in.remaining_bytes, in.dirty_rate));
    if (share(in.cold_rate, in.target_rate) >= kHeadroom) rest = in.remaining_bytes;
    prediction.downtime = time_for(static_cast<double>(rest), in.target_rate);
  }
  prediction.converges = prediction.downtime <= in.max_downtime && !in.dbt_hopeless;
  return prediction;
}

/// Mirrored writes take their share of the target; a guest that wants more than half of it is
/// paced.
Prediction predict_mirror(const ModeInputs& in) {
  Prediction prediction;
  const double taken = std::min(share(in.write_rate, in.target_rate), 0.5);
  prediction.total =
      time_for(static_cast<double>(in.remaining_bytes) / (1 - taken), in.target_rate);
  prediction.converges = !in.mirror_missed;
  return prediction;
}

/// Each chunk travels once, whatever the guest writes.
Prediction predict_postcopy(const ModeInputs& in) {
  Prediction prediction;
  prediction.total = time_for(static_cast<double>(in.remaining_bytes), in.target_rate);
  prediction.converges = in.postcopy_allowed;
  return prediction;
}

std::string numbers_of(const ModeInputs& in, const Prediction& dbt) {
  std::string text = "the guest writes " + format_rate(in.write_rate) + " and dirties " +
                     format_rate(in.dirty_rate) + ", " + format_bytes(in.hot_bytes) +
                     " again and again, the target takes " + format_rate(in.target_rate) +
                     ", dbt would stop the guest for " + format_duration(dbt.downtime) +
                     " of at most " + format_duration(in.max_downtime);
  if (in.dbt_hopeless) text += ", and has made no headway";
  if (in.mirror_missed) text += ", a mirror misses its deadline";
  if (in.mirror_slow) {
    text += ", a mirror makes more than 1 % of the writes wait longer than " +
            format_duration(in.max_guest_latency);
  }
  return text;
}

std::string unmet_time(const ModeInputs& in, Duration total) {
  if (in.time_left == Duration::zero() || total <= in.time_left) return {};
  return "the deadline: " + format_duration(total) + " are needed, " +
         format_duration(in.time_left) + " are left";
}

}  // namespace

ModeChoice choose_mode(const ModeInputs& inputs) {
  const Prediction dbt = predict_dbt(inputs);
  const Prediction mirror = predict_mirror(inputs);
  ModeChoice choice;
  choice.why = numbers_of(inputs, dbt);
  const Prediction postcopy = predict_postcopy(inputs);
  const std::string dbt_is_late = unmet_time(inputs, dbt.total);
  const std::string mirror_is_late = unmet_time(inputs, mirror.total);
  const bool mirror_converges = mirror.converges && !inputs.mirror_slow;
  if (dbt.converges && dbt_is_late.empty()) {
    choice.mode = Mode::kDbt;
  } else if (mirror_converges && mirror_is_late.empty()) {
    choice.mode = Mode::kMirror;
  } else if (postcopy.converges) {
    choice.mode = Mode::kPostcopy;
    choice.unmet = unmet_time(inputs, postcopy.total);
  } else if (dbt.converges) {
    choice.mode = Mode::kDbt;
    choice.unmet = dbt_is_late;
  } else if (mirror.converges) {
    choice.mode = Mode::kMirror;
    choice.unmet = mirror_is_late;
    if (inputs.mirror_slow) {
      choice.unmet =
          "the guest's latency: the mirror makes more than 1 % of the writes wait for "
          "longer than " +
          format_duration(inputs.max_guest_latency);
    }
  } else {
    // None: then the guest at least does not wait.
    choice.mode = Mode::kDbt;
    choice.unmet = "the downtime: " + format_duration(dbt.downtime) + " are predicted, " +
                   format_duration(inputs.max_downtime) +
                   " are allowed, and a mirror misses its deadline";
  }
  return choice;
}

bool ModeSwitch::offer(Mode choice, TimePoint now, bool urgent) {
  if (choice == mode_) {
    in_a_row_ = 0;
    return false;
  }
  ++in_a_row_;
  if (!urgent && (in_a_row_ < 2 || now - since_ < stay_)) return false;
  mode_ = choice;
  since_ = now;
  stay_ = std::clamp(2 * stay_, kLeastStay, kMostStay);
  in_a_row_ = 0;
  return true;
}

}  // namespace blockmig
