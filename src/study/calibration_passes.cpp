// SPDX-License-Identifier: Apache-2.0
#include "study/calibration_passes.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "study/calibration_shard.h"

namespace rtlynx {
namespace {

// Of the run's batches, the pass over the inputs draws one in so many.
constexpr std::int64_t kInputsStride = 4;

/// The batches of a range, in order, of which a pass draws one in `stride`.
std::vector<PromptRange> drawn_batches(const CalibrationRun& run, const PromptRange& range,
                                       std::int64_t stride) {
  std::vector<PromptRange> batches;
  for (std::int64_t first = range.first; first < range.last; first += run.batch) {
    if (first / run.batch % stride != 0) continue;
    batches.push_back({.first = first, .last = std::min(first + run.batch, range.last)});
  }
  return batches;
}

}  // namespace

PromptRange prompts_of(const CalibrationRun& run, const std::optional<CalibrationShard>& shard) {
  const std::int64_t prompts = run.prompts;
  if (!shard) return {.first = 0, .last = prompts};
  const std::int64_t batches = (prompts + run.batch - 1) / run.batch;
  if (shard->count > batches) {
    throw UsageError("shard: required at most as many as the run has batches, " +
                     std::to_string(batches) + ", got " + std::to_string(shard->count));
  }
  const auto begin = [&](std::int64_t index) {
    return std::min(prompts, index * batches / shard->count * run.batch);
  };
  return {.first = begin(shard->index - 1), .last = begin(shard->index)};
}

std::int64_t pictures_of_inputs(const CalibrationRun& run, const PromptRange& range) {
  std::int64_t pictures = 0;
  for (const PromptRange& batch : drawn_batches(run, range, kInputsStride)) {
    pictures += batch.size();
  }
  return pictures;
}

CalibrationPasses::CalibrationPasses(Pipeline& pipeline, const CalibrateOptions& options,
                                     const CalibrationPart& part,
                                     const std::filesystem::path& statistics)
    : pipeline_(pipeline),
      options_(options),
      part_(part),
      statistics_(statistics),
      description_(describe_shard(part, options.shard)),
      request_(calibration_request(options.run)),
      range_(prompts_of(options.run, options.shard)) {
  request_.width = request_.height = pipeline.trained_size;
  if (!statistics_.empty()) {
    state_ = load_calibration(statistics_, description_, pipeline.options().device());
  }
}

bool CalibrationPasses::sum_inputs(CalibrateProgress& progress, const CalibrateCallback& on_step) {
  InputCollector collector(part_.inputs, nullptr, uses_norm(options_.solve), options_.rows,
                           pipeline_.options());
  return finish_pass(state_.inputs, kInputsStride, collector, progress, on_step);
}

bool CalibrationPasses::sum_choices(CalibrateProgress& progress, const CalibrateCallback& on_step) {
  const Transforms transforms = make_transforms();
  InputCollector collector(part_.inputs, &transforms, uses_norm(options_.solve), options_.rows,
                           pipeline_.options());
  return finish_pass(state_.choices, /*stride=*/1, collector, progress, on_step);
}

CalibrationSums CalibrationPasses::take_sums() {
  return {.transforms = make_transforms(), .moments = std::move(state_.choices.moments)};
}

bool CalibrationPasses::finish_pass(CalibrationPass& pass, std::int64_t stride,
                                    InputCollector& collector, CalibrateProgress& progress,
                                    const CalibrateCallback& on_step) {
  const int steps = options_.run.steps;
  const std::vector<PromptRange> batches = drawn_batches(options_.run, range_, stride);
  bool go_on = true;
  for (std::size_t i = 0; i < batches.size() && go_on; ++i) {
    const auto [first, last] = batches[i];
    if (first < range_.first + pass.finished) continue;
    collector.begin_batch(first);
    observe_inputs(
        pipeline_, slice(first, last), [&](const auto& layer) { return collector.wants(layer); },
        [&](const auto& layer, const auto& x) { collector.add(layer, x, pass.moments); },
        [&](int finished, int) {
          if (!on_step) return;
          progress.finished = static_cast<int>(i) * steps + finished;
          progress.steps = static_cast<int>(batches.size()) * steps;
          go_on = on_step(progress) && go_on;
        });
    // Nothing is drawn of the prompts up to the next batch.
    pass.finished = (i + 1 < batches.size() ? batches[i + 1].first : range_.last) - range_.first;
    const bool due = (i + 1) % static_cast<std::size_t>(options_.save_interval) == 0;
    if (due || !go_on || pass.finished == range_.size()) save();
  }
  if (batches.empty()) {  // of a shard that the pass leaves out
    pass.finished = range_.size();
    save();
  }
  if (pass.finished < range_.size()) return false;
  ++progress.pass;
  return true;
}

GenerateRequest CalibrationPasses::slice(std::int64_t first, std::int64_t last) const {
  GenerateRequest part = request_;
  part.prompts.assign(request_.prompts.begin() + first, request_.prompts.begin() + last);
  part.seeds.assign(request_.seeds.begin() + first, request_.seeds.begin() + last);
  return part;
}

void CalibrationPasses::save() const {
  if (!statistics_.empty()) save_calibration(statistics_, description_, state_);
}

CalibrationPasses::Transforms CalibrationPasses::make_transforms() const {
  Transforms transforms;
  for (const SharedInput& group : part_.inputs) {
    const torch::Tensor moment = options_.transform.needs_moments()
                                     ? state_.inputs.moments.at(group.name).second_moment()
                                     : torch::Tensor();
    transforms[group.name] = choose_transform(options_.transform, group, moment);
  }
  return transforms;
}

}  // namespace rtlynx
