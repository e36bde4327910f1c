// SPDX-License-Identifier: Apache-2.0
#include "study/calibration_run.h"

#include "base/error.h"
#include "mini/scenes/caption.h"
#include "mini/scenes/scene.h"
#include "models/recipe.h"
#include "study/observer_scope.h"

namespace rtlynx {
namespace {

// Evaluations draw picture i from seed i.
constexpr std::uint64_t kFirstNoiseSeed = 1'000'000'000;

}  // namespace

GenerateRequest calibration_request(const CalibrationRun& run) {
  if (run.prompts < 1) {
    throw UsageError("calibration: required at least one prompt, got " +
                     std::to_string(run.prompts));
  }
  GenerateRequest request{.prompts = {}, .seeds = {}, .steps = run.steps, .guidance = run.guidance};
  Rng rng(run.seed);
  for (int i = 0; i < run.prompts; ++i) {
    request.prompts.push_back(caption(sample_scene(rng, Split::train)));
    request.seeds.push_back(kFirstNoiseSeed + static_cast<std::uint64_t>(i));
  }
  return request;
}

void observe_inputs(Pipeline& pipeline, const GenerateRequest& request,
                    const std::function<bool(const std::string& layer)>& wanted,
                    const InputCallback& on_input, const StepCallback& on_step) {
  make_dense(*pipeline.transformer);
  const ObserverScope scope(*pipeline.transformer, wanted, on_input);
  pipeline.generate_pixels(request, on_step);
}

void observe_inputs(Pipeline& pipeline, const CalibrationRun& run,
                    const std::function<bool(const std::string& layer)>& wanted,
                    const InputCallback& on_input, const StepCallback& on_step) {
  GenerateRequest request = calibration_request(run);
  request.width = request.height = pipeline.trained_size;
  pipeline.text_encoder->encode(request.prompts);  // refuses an unknown word before any work
  const std::vector<GenerateRequest> parts = split_request(request, run.batch);
  const int all_steps = static_cast<int>(parts.size()) * run.steps;
  int before = 0;
  for (const GenerateRequest& part : parts) {
    observe_inputs(pipeline, part, wanted, on_input, [&](int finished, int) {
      if (on_step) on_step(before + finished, all_steps);
    });
    before += run.steps;
  }
}

}  // namespace rtlynx
