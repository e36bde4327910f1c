// SPDX-License-Identifier: Apache-2.0
#include "study/solve_inputs.h"

#include <string>
#include <utility>

#include "study/layer_error.h"

namespace rtlynx {
namespace {

std::vector<LayerOption> solve_rivals(const std::string& input, const SparseLinear& linear,
                                      const torch::Tensor& second_moment,
                                      const CalibrateOptions& options) {
  std::vector<LayerOption> rivals;
  for (const RivalMethod method : options.rivals) {
    const std::optional<RivalSolution> solution =
        solve_rival(method, linear->weight, second_moment, options.solve.rank);
    if (!solution) continue;
    rivals.push_back({.layer = {.input = input,
                                .values = {},
                                .replacement = solution->values,
                                .method = std::string(to_string(method))},
                      .local_error = solution->error});
  }
  return rivals;
}

}  // namespace

void solve_inputs(const std::vector<SharedInput>& inputs, const CalibrationSums& sums,
                  const CalibrateOptions& options, CalibrateResult& result) {
  for (const SharedInput& group : inputs) {
    if (!sums.moments.contains(group.name)) continue;
    const InputMoments& moments = sums.moments.at(group.name);
    check_finite({{group.name, moments}});
    const torch::Tensor of_input =
        options.rivals.empty() ? torch::Tensor()
                               : input_second_moment(moments, sums.transforms.at(group.name));
    for (const NamedLinear& layer : group.layers) {
      const std::string& name = layer.name;
      const SparseLinear& linear = layer.linear;
      const torch::Tensor& weight = linear->weight;
      LayerSolution solution = of_layer(name, [&] {
        return solve_layer(moments, sums.transforms.at(group.name), weight, options.solve);
      });
      result.compensation.layers[name] = {.input = group.name, .values = solution.values};
      result.layers.push_back({.name = name,
                               .input = group.name,
                               .tokens = moments.tokens,
                               .in_features = linear->in_features(),
                               .out_features = linear->out_features(),
                               .solution = std::move(solution),
                               .rivals = of_layer(name, [&] {
                                 return solve_rivals(group.name, linear, of_input, options);
                               })});
    }
  }
}

}  // namespace rtlynx
