// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/random_model.h"

#include <cmath>
#include <map>
#include <string>

#include "models/recipe.h"

namespace rtlynx::step_benchmark {

void fill_with_random_weights(torch::nn::Module& model) {
  const torch::NoGradGuard no_grad;
  for (auto& item : model.named_parameters()) {
    torch::Tensor& value = item.value();
    if (value.dim() == 2) {
      value.normal_(0.0, 1.0 / std::sqrt(static_cast<double>(value.size(1))));
    } else {
      const bool is_norm = item.key().ends_with("weight");
      value.normal_(is_norm ? 1.0 : 0.0, 0.05);
    }
  }
}

void copy_weights_and_forms(const torch::nn::Module& from, torch::nn::Module& to) {
  const torch::NoGradGuard no_grad;
  const auto weights = from.named_parameters();
  for (auto& item : to.named_parameters()) item.value().copy_(weights[item.key()]);
  std::map<std::string, SparseLinear> layers;
  for (const NamedLinear& item : named_linears(from)) layers.emplace(item.name, item.linear);
  for (NamedLinear& item : named_linears(to)) {
    const SparseLinear& own = layers.at(item.name);
    if (own->mode() == LinearMode::compensated) {
      Compensation24 form = *own->compensation();
      // What e4m3 rounds, an fp32 model has as it is.
      if (item.linear->weight.scalar_type() == torch::kFloat32) form.e4m3 = false;
      item.linear->set_compensation(form);
    }
    if (own->mode() == LinearMode::replaced) item.linear->set_replacement(*own->replacement());
    item.linear->set_mode(own->mode());
  }
}

double relative_distance(const torch::Tensor& value, const torch::Tensor& exact) {
  const torch::Tensor wide = exact.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - wide).norm() / wide.norm()).item<double>();
}

torch::Tensor grid_positions(std::int64_t side) {
  const torch::Tensor at = torch::arange(side).to(torch::kFloat32);
  const torch::Tensor rows = at.view({-1, 1}).expand({side, side});
  const torch::Tensor columns = at.view({1, -1}).expand({side, side});
  return torch::stack({torch::zeros({side, side}), rows, columns}, -1).view({-1, 3});
}

}  // namespace rtlynx::step_benchmark
