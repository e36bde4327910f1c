// SPDX-License-Identifier: Apache-2.0
#include "study/input_moments.h"

#include <map>
#include <string>

#include "models/recipe.h"
#include "models/shared_input.h"

namespace rtlynx {

GroupMoments collect_input_moments(Pipeline& pipeline, const CalibrationRun& run,
                                   const StepCallback& on_step) {
  // One layer of each group sees what all of them read.
  const std::vector<LayerGroup>& groups = pipeline.transformer->groups();
  std::map<std::string, std::string> observed;  // the input's name by the layer's
  for (const SharedInput& input :
       shared_inputs(*pipeline.transformer, groups, paper_layers(groups))) {
    observed.emplace(input.layers.front().name, input.name);
  }
  GroupMoments moments;
  observe_inputs(
      pipeline, run, [&](const std::string& layer) { return observed.contains(layer); },
      [&](const std::string& layer, const torch::Tensor& x) {
        // Sums made in inference mode could not be used outside of it.
        const c10::InferenceMode off(false);
        const torch::NoGradGuard no_grad;
        moments[observed.at(layer)].add(x);
      },
      on_step);
  return moments;
}

}  // namespace rtlynx
