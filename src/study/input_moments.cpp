// SPDX-License-Identifier: Apache-2.0
#include "study/input_moments.h"

#include <set>

#include "models/recipe.h"
#include "models/shared_input.h"

namespace rtlynx {

GroupMoments collect_input_moments(Pipeline& pipeline, const CalibrationRun& run,
                                   const StepCallback& on_step) {
  // One layer of each group sees what all of them read.
  std::set<std::string> groups, observed;
  for (const auto& [name, linear] : named_linears(*pipeline.transformer)) {
    if (in_paper_flux_recipe(name) && groups.insert(input_group(name)).second) {
      observed.insert(name);
    }
  }
  GroupMoments moments;
  observe_inputs(
      pipeline, run, [&](const std::string& layer) { return observed.contains(layer); },
      [&](const std::string& layer, const torch::Tensor& x) {
        // Sums made in inference mode could not be used outside of it.
        const c10::InferenceMode off(false);
        const torch::NoGradGuard no_grad;
        moments[input_group(layer)].add(x);
      },
      on_step);
  return moments;
}

}  // namespace rtlynx
