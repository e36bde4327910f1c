// SPDX-License-Identifier: Apache-2.0
#include "study/drawn_steps.h"

#include <ATen/CPUGeneratorImpl.h>

#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "layers/finite.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kLatentFactor = 8;  // of every family's autoencoder
constexpr std::int64_t kTokenSide = 16;    // pixels
constexpr std::int64_t kMaxSide = 8192;

std::string in_short(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

/// The device's velocity of a pass, on the host.
torch::Tensor velocity_of(BlockwiseTransformer& model, const DrawnStep& pass,
                          const PromptEmbeddings& embeddings, const DrawingRun& run) {
  torch::Tensor velocity = model.velocity(input_of(pass, embeddings, run));
  velocity = velocity.to(torch::kCPU, torch::kFloat32);
  require_finite(velocity, "transformer, prompt " + std::to_string(pass.prompt) + ", noise level " +
                               in_short(pass.sigma));
  return velocity;
}

}  // namespace

DenoiserInput input_of(const DrawnStep& step, const PromptEmbeddings& embeddings,
                       const DrawingRun& run) {
  const PromptFeatures& features = step.prompt == DrawnStep::kNegative
                                       ? *embeddings.negative
                                       : embeddings.prompts[static_cast<std::size_t>(step.prompt)];
  return {.latents = step.latents,
          .sigma = step.sigma,
          .features = {features},
          .guidance = run.guidance};
}

void check_run(const BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
               const DrawingRun& run) {
  for (const std::int64_t side : {run.width, run.height}) {
    if (side >= kTokenSide && side <= kMaxSide && side % kTokenSide == 0) continue;
    throw UsageError(
        "calibrate: required width and height from 16 to 8192 pixels in steps of 16, "
        "got " +
        std::to_string(run.width) + "x" + std::to_string(run.height));
  }
  if (run.guided() != embeddings.negative.has_value()) {
    throw UsageError("calibrate: required --true-cfg above 1 and a negative prompt together, got " +
                     (run.guided() ? "--true-cfg " + in_short(run.true_cfg) + " alone"
                                   : "a negative prompt and --true-cfg " + in_short(run.true_cfg)));
  }
  require(model.latent_channels() > 0, "calibrate", "latents of at least one channel", "none");
}

std::int64_t passes_of(const PromptEmbeddings& embeddings, const DrawingRun& run) {
  return std::ssize(embeddings.prompts) * run.steps * (run.guided() ? 2 : 1);
}

std::vector<DrawnStep> draw_steps(BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
                                  const SchedulerConfig& scheduler, const DrawingRun& run,
                                  const std::function<bool(std::int64_t finished)>& on_pass) {
  const std::int64_t height = run.height / kLatentFactor, width = run.width / kLatentFactor;
  const std::int64_t tokens = (run.height / kTokenSide) * (run.width / kTokenSide);
  const Schedule schedule = make_schedule(scheduler, run.steps, tokens);
  std::vector<DrawnStep> passes;
  for (std::int64_t prompt = 0; prompt < std::ssize(embeddings.prompts); ++prompt) {
    auto generator = at::detail::createCPUGenerator(run.seed + static_cast<std::uint64_t>(prompt));
    // fp32 throughout: what a type of fewer bits rounds off is noise beside the noise.
    torch::Tensor latents =
        torch::randn({1, model.latent_channels(), height, width}, generator, torch::kFloat32);
    for (int step = 0; step < schedule.steps(); ++step) {
      passes.push_back({.latents = latents,
                        .sigma = schedule.sigmas[static_cast<std::size_t>(step)],
                        .prompt = prompt});
      torch::Tensor velocity = velocity_of(model, passes.back(), embeddings, run);
      if (run.guided()) {
        passes.push_back(passes.back());
        passes.back().prompt = DrawnStep::kNegative;
        velocity =
            model.guide(velocity, velocity_of(model, passes.back(), embeddings, run), run.true_cfg);
      }
      latents = euler_step(schedule, step, latents, velocity);
      if (!on_pass(std::ssize(passes))) return {};
    }
  }
  return passes;
}

}  // namespace rtlynx
