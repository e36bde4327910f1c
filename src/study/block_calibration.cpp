// SPDX-License-Identifier: Apache-2.0
#include "study/block_calibration.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/device_memory.h"
#include "models/revision.h"
#include "models/shared_input.h"
#include "study/calibration_part.h"
#include "study/input_collector.h"
#include "study/kept_blocks.h"
#include "study/observer_scope.h"
#include "study/solve_inputs.h"

namespace rtlynx {
namespace {

using Inputs = std::vector<SharedInput>;

/// The inputs of each block that layers of the recipe read.
std::vector<Inputs> inputs_of_blocks(BlockwiseTransformer& model, const CalibrateOptions& options) {
  const LayerFilter wanted = recipe_from_string(options.recipe, model.groups());
  std::vector<Inputs> of_blocks;
  for (const std::string& block : model.blocks()) {
    std::vector<LayerGroup> groups;
    std::ranges::copy_if(model.groups(), std::back_inserter(groups),
                         [&](const LayerGroup& group) { return group.block == block; });
    of_blocks.push_back(shared_inputs(model.module(), groups, wanted));
    for (const SharedInput& input : of_blocks.back()) check_layers(input, options);
  }
  return of_blocks;
}

std::int64_t sum_bytes(const Inputs& inputs, const CalibrateOptions& options) {
  std::int64_t bytes = 0;
  for (const SharedInput& input : inputs) bytes += statistics_bytes(input.channels(), options);
  return bytes;
}

/// Inputs whose sums fit the memory together, or one each.
std::vector<Inputs> parts_of(const Inputs& inputs, const CalibrateOptions& options) {
  std::vector<Inputs> parts;
  for (const SharedInput& input : inputs) {
    const bool fits = !parts.empty() && sum_bytes(parts.back(), options) +
                                                statistics_bytes(input.channels(), options) <=
                                            options.memory;
    if (!fits) parts.emplace_back();
    parts.back().push_back(input);
  }
  return parts;
}

nlohmann::ordered_json settings_of(const CalibrateResult& begun, const PromptEmbeddings& embeddings,
                                   const SchedulerConfig& scheduler,
                                   const BlockCalibrateOptions& options) {
  const SolveOptions& solve = options.calibrate.solve;
  const DrawingRun& run = options.run;
  return {{"revision", begun.compensation.base_revision},
          {"embeddings", embeddings.revision},
          {"scheduler", to_json(scheduler)},
          {"method", begun.compensation.method},
          {"transform", begun.compensation.transform},
          {"recipe", begun.compensation.recipe},
          {"norm", uses_norm(solve)},
          {"rank", solve.rank},
          {"damping", solve.damping},
          {"e4m3", solve.e4m3},
          {"rows", options.calibrate.rows},
          {"steps", run.steps},
          {"guidance", run.guidance},
          {"true_cfg", run.true_cfg},
          {"width", run.width},
          {"height", run.height},
          {"seed", run.seed}};
}

class BlockCalibration {
 public:
  BlockCalibration(BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
                   const SchedulerConfig& scheduler, const BlockCalibrateOptions& options,
                   const BlockCalibrateCallback& on_pass)
      : model_(model),
        embeddings_(embeddings),
        scheduler_(scheduler),
        options_(options),
        on_pass_(on_pass),
        device_(model.module().parameters().front().device()),
        of_blocks_(inputs_of_blocks(model, options.calibrate)),
        result_(begin_result()),
        kept_(options.kept, settings_of(result_, embeddings, scheduler, options)) {}

  CalibrateResult run() {
    const torch::NoGradGuard no_grad;
    make_dense(model_.module());
    if (!begin_states()) return {};
    const std::vector<std::string> blocks = model_.blocks();
    for (std::size_t block = 0; block <= last_block(); ++block) {
      stage_ = blocks[block].substr(0, blocks[block].size() - 1);
      const bool solved = of_blocks_[block].empty() || kept_.take(blocks[block], result_);
      if (!(solved ? pass(block, nullptr, nullptr, /*advance=*/true) : solve(block))) return {};
    }
    result_.finished = true;
    return std::move(result_);
  }

 private:
  CalibrateResult begin_result() const {
    const CalibrateOptions& options = options_.calibrate;
    CalibrateResult result;
    result.compensation = {.base_model = model_.class_name(),
                           .base_revision = weights_revision(model_.module()),
                           .method = std::string(to_string(options.solve.method)),
                           .transform = to_string(options.transform),
                           .recipe = options.recipe,
                           .rank = rank_of(options.solve),
                           .layers = {}};
    return result;
  }

  /// The last one with something to solve.
  std::size_t last_block() const {
    std::size_t last = of_blocks_.size() - 1;
    while (of_blocks_[last].empty()) --last;
    return last;
  }

  bool say(std::int64_t finished, std::int64_t all) const {
    return !on_pass_ || on_pass_({.stage = stage_, .finished = finished, .all = all});
  }

  /// What the first block reads in every pass of the drawing. False if stopped.
  bool begin_states() {
    stage_ = "drawing";
    std::optional<std::vector<DrawnStep>> passes = kept_.drawing();
    if (!passes) {
      const std::int64_t all = passes_of(embeddings_, options_.run);
      passes = draw_steps(model_, embeddings_, scheduler_, options_.run,
                          [&](std::int64_t finished) { return say(finished, all); });
      if (passes->empty()) return false;
      kept_.keep_drawing(*passes);
    }
    for (const DrawnStep& pass : *passes) {
      const BlockState state =
          model_.begin(input_of(pass, embeddings_, options_.run)).to(torch::kCPU);
      if (states_.empty()) {
        require_memory("calibrate, states of " + std::to_string(passes->size()) + " passes",
                       static_cast<std::uint64_t>(state.bytes() * std::ssize(*passes)),
                       torch::kCPU);
      }
      states_.push_back(state);
    }
    return true;
  }

  /// Every state through the block. What the collector wants is added to `moments`; `advance`
  /// leaves what the block makes in place of what it read. False if stopped.
  bool pass(std::size_t block, InputCollector* collector, GroupMoments* moments, bool advance) {
    const InputCallback on_input = [&](const std::string& layer, const torch::Tensor& x) {
      collector->add(layer, x, *moments);
    };
    const ObserverScope scope(
        model_.module(),
        [&](const std::string& layer) { return collector != nullptr && collector->wants(layer); },
        on_input);
    const std::int64_t all = std::ssize(states_);
    for (std::int64_t i = 0; i < all; ++i) {
      BlockState& kept = states_[static_cast<std::size_t>(i)];
      BlockState state = kept.to(device_);
      if (collector != nullptr) collector->begin_batch(i);
      model_.run_block(block, state);
      if (advance) kept = state.to(torch::kCPU);
      if (!say(i + 1, all)) return false;
    }
    return true;
  }

  bool solve(std::size_t block) {
    const CalibrateOptions& options = options_.calibrate;
    const torch::TensorOptions like = model_.module().parameters().front().options();
    CalibrateResult solved = begin_of(result_);
    const std::vector<Inputs> parts = parts_of(of_blocks_[block], options);
    for (const Inputs& part : parts) {
      GroupMoments inputs;
      if (options.transform.needs_moments()) {
        InputCollector collector(part, nullptr, false, options.rows, like);
        if (!pass(block, &collector, &inputs, /*advance=*/false)) return false;
      }
      CalibrationSums sums{.transforms = transforms_of(part, inputs), .moments = {}};
      InputCollector collector(part, &sums.transforms, uses_norm(options.solve), options.rows,
                               like);
      const bool is_last = &part == &parts.back();
      if (!pass(block, &collector, &sums.moments, /*advance=*/is_last)) return false;
      check_tokens(sums.moments);
      solve_inputs(part, sums, options, solved);
    }
    kept_.keep(model_.blocks()[block], solved);
    std::ranges::move(solved.layers, std::back_inserter(result_.layers));
    result_.compensation.layers.merge(solved.compensation.layers);
    return true;
  }

  /// The same compensation, without layers.
  static CalibrateResult begin_of(const CalibrateResult& result) {
    CalibrateResult begun;
    begun.compensation = result.compensation;
    begun.compensation.layers.clear();
    return begun;
  }

  std::map<std::string, InputTransform> transforms_of(const Inputs& part,
                                                      const GroupMoments& inputs) const {
    std::map<std::string, InputTransform> transforms;
    for (const SharedInput& input : part) {
      const auto found = inputs.find(input.name);
      transforms[input.name] =
          choose_transform(options_.calibrate.transform, input,
                           found == inputs.end() ? torch::Tensor() : found->second.second_moment());
    }
    return transforms;
  }

  void check_tokens(const GroupMoments& moments) const {
    const std::int64_t rank = rank_of(options_.calibrate.solve);
    for (const auto& [input, sums] : moments) {
      require(sums.tokens >= rank, "calibrate",
              "at least " + std::to_string(rank) + " tokens, the rank, read by " + input,
              std::to_string(sums.tokens));
    }
  }

  BlockwiseTransformer& model_;
  const PromptEmbeddings& embeddings_;
  const SchedulerConfig& scheduler_;
  const BlockCalibrateOptions& options_;
  const BlockCalibrateCallback& on_pass_;
  torch::Device device_;
  std::vector<Inputs> of_blocks_;
  CalibrateResult result_;
  KeptBlocks kept_;
  std::string stage_;
  std::vector<BlockState> states_;  // on the host, a pass of the drawing each
};

}  // namespace

void check_block_calibration(BlockwiseTransformer& planned, const torch::TensorOptions& options,
                             const BlockCalibrateOptions& calibration) {
  std::uint64_t most = 0;
  for (const Inputs& inputs : inputs_of_blocks(planned, calibration.calibrate)) {
    for (const Inputs& part : parts_of(inputs, calibration.calibrate)) {
      most = std::max(most, static_cast<std::uint64_t>(sum_bytes(part, calibration.calibrate)));
    }
  }
  if (most == 0) {
    throw UsageError("recipe: required one that names layers of " + planned.class_name() +
                     ", got " + calibration.calibrate.recipe);
  }
  std::uint64_t weights = 0;
  for (const torch::Tensor& parameter : planned.module().parameters()) {
    weights += static_cast<std::uint64_t>(parameter.numel()) * options.dtype().itemsize();
  }
  require_memory("calibrate, weights and sums", weights + most, options.device());
}

CalibrateResult calibrate_blocks(BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
                                 const SchedulerConfig& scheduler,
                                 const BlockCalibrateOptions& options,
                                 const BlockCalibrateCallback& on_pass) {
  check_run(model, embeddings, options.run);
  return BlockCalibration(model, embeddings, scheduler, options, on_pass).run();
}

}  // namespace rtlynx
