// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/variants.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "models/gain.h"

namespace rtlynx::step_benchmark {
namespace {

constexpr double kLowRankDeviation = 0.02;

torch::Tensor orthogonal_blocks(std::int64_t channels, std::int64_t block,
                                const torch::TensorOptions& options) {
  const torch::Tensor random =
      torch::randn({channels / block, block, block}, options.dtype(torch::kFloat32));
  return std::get<0>(torch::linalg_qr(random)).to(options);
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

const std::vector<StepVariant>& step_variants() {
  static const std::vector<StepVariant> variants = {
      {.name = "dense"},
      {.name = "paper", .sparse = true},
      {.name = "paper-block64", .sparse = true, .transform_block = 64},
      {.name = "best-block64", .every_layer = true, .sparse = true, .transform_block = 64},
      {.name = "e4m3", .every_layer = true, .sparse = true, .transform_block = 64, .e4m3 = true},
      {.name = "weights", .every_layer = true, .sparse = true, .weights = true},
  };
  return variants;
}

std::vector<StepVariant> variants_named(const std::vector<std::string>& names) {
  std::vector<StepVariant> named;
  for (const StepVariant& variant : step_variants()) {
    const bool wanted = names.empty() ? !variant.weights : contains(names, variant.name);
    if (wanted) named.push_back(variant);
  }
  if (names.empty()) return named;
  const std::set<std::string> distinct(names.begin(), names.end());
  if (named.size() != distinct.size()) {
    throw UsageError(fmt::format(
        "--variant: required dense, paper, paper-block64, best-block64, e4m3 or weights, "
        "got {}",
        fmt::join(distinct, ", ")));
  }
  return named;
}

std::vector<const LayerGroup*> sparse_groups(const StepVariant& variant,
                                             const std::vector<LayerGroup>& groups,
                                             const StreamTokens& tokens,
                                             const gpu::DeviceTraits& device) {
  std::vector<const LayerGroup*> sparse;
  for (const LayerGroup& group : groups) {
    if (!variant.sparse || !(variant.every_layer || group.in_paper())) continue;
    const SparseForm form{.rank = variant.rank,
                          .width = variant.e4m3 ? OperandWidth::k8 : OperandWidth::k16};
    if (gains(group, tokens.of(group.stream), form, device)) sparse.push_back(&group);
  }
  return sparse;
}

void apply(const StepVariant& variant, const std::vector<const LayerGroup*>& sparse,
           const torch::nn::Module& model) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, const LayerGroup*> group_of;
  for (const LayerGroup* group : sparse) {
    for (const GroupLayer& layer : group->layers) group_of[layer.name] = group;
  }
  std::map<const LayerGroup*, torch::Tensor> transforms;  // shared by the layers of a group
  for (NamedLinear& item : named_linears(model)) {
    const auto found = group_of.find(item.name);
    if (found == group_of.end()) {
      item.linear->set_mode(LinearMode::dense);
      continue;
    }
    const torch::TensorOptions options = item.linear->weight.options().requires_grad(false);
    const std::int64_t inputs = item.linear->in_features(), outputs = item.linear->out_features();
    const torch::Tensor down = kLowRankDeviation * torch::randn({variant.rank, inputs}, options);
    const torch::Tensor up = kLowRankDeviation * torch::randn({outputs, variant.rank}, options);
    if (variant.weights) {
      const torch::Tensor pruned =
          std::get<0>(ops::sparsify24(item.linear->weight, /*norm=*/false));
      item.linear->set_replacement({.weight = pruned, .down = down, .up = up, .sparse = true});
      item.linear->set_mode(LinearMode::replaced);
      continue;
    }
    Compensation24 form{.down = down, .up = up, .e4m3 = variant.e4m3};
    if (variant.transform_block > 0) {
      torch::Tensor& shared = transforms[found->second];
      if (!shared.defined()) shared = orthogonal_blocks(inputs, variant.transform_block, options);
      form.transform.blocks = shared;
      form.weight = item.linear->weight;  // any weight takes as long
    }
    item.linear->set_compensation(form);
    item.linear->set_mode(LinearMode::compensated);
  }
}

}  // namespace rtlynx::step_benchmark
