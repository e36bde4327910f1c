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

InputCollector CalibrationPasses::collector_of(Pass pass) const {
  if (pass == Pass::inputs) {
    return {part_.inputs, nullptr, uses_norm(options_.solve), options_.rows, pipeline_.options()};
  }
  const Transforms transforms = make_transforms();
  return {part_.inputs, &transforms, uses_norm(options_.solve), options_.rows, pipeline_.options()};
}

CalibrationSums CalibrationPasses::take_sums() {
  return {.transforms = make_transforms(), .moments = std::move(state_.choices.moments)};
}

GenerateRequest CalibrationPasses::slice(const PromptRange& range) const {
  const auto [first, last] = range;
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

/// A pass over the batches of a run, and whose sums they are added to.
class DrawnPass {
 public:
  DrawnPass(CalibrationPasses::Pass pass, const std::vector<CalibrationPasses*>& all)
      : any_(*all.front()),
        batches_(drawn_batches(any_.options_.run, any_.range_,
                               pass == CalibrationPasses::Pass::inputs ? kInputsStride : 1)) {
    for (CalibrationPasses* of : all) {
      require(of->range_ == any_.range_ && of->request_.prompts == any_.request_.prompts,
              "calibration", "one run for all that is drawn at once", "several");
      members_.push_back({of, &of->state_of(pass), of->collector_of(pass)});
    }
  }

  bool finish(CalibrateProgress& progress, const CalibrateCallback& on_step) {
    const int steps = any_.options_.run.steps;
    bool go_on = true;
    for (std::size_t i = 0; i < batches_.size() && go_on; ++i) {
      if (!begin(batches_[i])) continue;
      draw(batches_[i], [&](int finished, int) {
        if (!on_step) return;
        progress.finished = static_cast<int>(i) * steps + finished;
        progress.steps = static_cast<int>(batches_.size()) * steps;
        go_on = on_step(progress) && go_on;
      });
      end(i, go_on);
    }
    if (batches_.empty()) end_without_batches();
    if (!all_finished()) return false;
    ++progress.pass;
    return true;
  }

 private:
  struct Member {
    CalibrationPasses* of;
    CalibrationPass* pass;
    InputCollector collector;
    bool open = false;  ///< the batch at work is among those that are left
  };

  // Whether the batch is to be drawn.
  bool begin(const PromptRange& batch) {
    bool any = false;
    for (Member& member : members_) {
      member.open = batch.first >= any_.range_.first + member.pass->finished;
      if (member.open) member.collector.begin_batch(batch.first);
      any = any || member.open;
    }
    return any;
  }

  void draw(const PromptRange& batch, const StepCallback& on_step) {
    const auto wanted = [&](const std::string& layer) {
      return std::any_of(members_.begin(), members_.end(), [&](const Member& member) {
        return member.open && member.collector.wants(layer);
      });
    };
    const auto add = [&](const std::string& layer, const torch::Tensor& x) {
      for (Member& member : members_) {
        if (!member.open || !member.collector.wants(layer)) continue;
        member.collector.add(layer, x, member.pass->moments);
      }
    };
    observe_inputs(any_.pipeline_, any_.slice(batch), wanted, add, on_step);
  }

  void end(std::size_t i, bool go_on) {
    // Nothing is drawn of the prompts up to the next batch.
    const PromptRange& range = any_.range_;
    const std::int64_t end = i + 1 < batches_.size() ? batches_[i + 1].first : range.last;
    const bool due = (i + 1) % static_cast<std::size_t>(any_.options_.save_interval) == 0;
    for (Member& member : members_) {
      if (!member.open) continue;
      member.pass->finished = end - range.first;
      if (due || !go_on || end == range.last) member.of->save();
    }
  }

  // Of a shard that the pass leaves out.
  void end_without_batches() {
    for (Member& member : members_) {
      member.pass->finished = any_.range_.size();
      member.of->save();
    }
  }

  bool all_finished() const {
    return std::all_of(members_.begin(), members_.end(), [&](const Member& member) {
      return member.pass->finished == any_.range_.size();
    });
  }

  const CalibrationPasses& any_;
  std::vector<PromptRange> batches_;
  std::vector<Member> members_;
};

bool finish_pass(CalibrationPasses::Pass pass, const std::vector<CalibrationPasses*>& members,
                 CalibrateProgress& progress, const CalibrateCallback& on_step) {
  return DrawnPass(pass, members).finish(progress, on_step);
}

}  // namespace rtlynx
