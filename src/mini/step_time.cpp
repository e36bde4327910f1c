// SPDX-License-Identifier: Apache-2.0
#include "mini/step_time.h"

#include <chrono>

namespace rtlynx {

double seconds_per_step(Pipeline& pipeline, int batch, double guidance) {
  return seconds_per_step_at_once(pipeline, pipeline.pictures_at_once(batch), guidance);
}

double seconds_per_step_at_once(Pipeline& pipeline, int pictures, double guidance) {
  const auto count = static_cast<std::size_t>(pictures);
  GenerateRequest request{.prompts = std::vector<std::string>(count),
                          .seeds = std::vector<std::uint64_t>(count),
                          .steps = 1,
                          .guidance = guidance,
                          .width = pipeline.trained_size,
                          .height = pipeline.trained_size};
  pipeline.generate_pixels(request);  // the first takes longer
  constexpr int kTimed = 2;
  request.steps = kTimed;
  const auto start = std::chrono::steady_clock::now();
  pipeline.generate_pixels(request);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return elapsed.count() / (kTimed * pictures);
}

}  // namespace rtlynx
