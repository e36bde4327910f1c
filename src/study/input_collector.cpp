// SPDX-License-Identifier: Apache-2.0
#include "study/input_collector.h"

#include <ATen/CPUGeneratorImpl.h>

#include <utility>

#include "ops/ops.h"

namespace rtlynx {
namespace {

// As a layer holds it: in the weights' type, on their device.
InputTransform converted(const InputTransform& transform, const torch::TensorOptions& like) {
  const auto to = [&](const torch::Tensor& tensor) {
    return tensor.defined() ? tensor.to(like) : tensor;
  };
  return {.blocks = to(transform.blocks),
          .scale = to(transform.scale),
          .permutation = transform.permutation};
}

}  // namespace

InputCollector::InputCollector(const std::vector<SharedInput>& groups, const Transforms* transforms,
                               bool norm, std::int64_t rows, const torch::TensorOptions& like)
    : norm_(norm), rows_(rows) {
  for (const SharedInput& group : groups) {
    // Any of its layers sees the group's input.
    Source source{.group = group.name, .selects = transforms != nullptr};
    if (source.selects) source.transform = converted(transforms->at(group.name), like);
    sources_.emplace(group.layers.front().name, std::move(source));
  }
}

void InputCollector::begin_batch(std::int64_t index) {
  for (auto& [layer, source] : sources_) {
    source.generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(index));
  }
}

void InputCollector::add(const std::string& layer, const torch::Tensor& x,
                         GroupMoments& moments) const {
  // Sums made in inference mode could not be added to outside of it.
  const c10::InferenceMode off(false);
  const torch::NoGradGuard no_grad;
  const Source& source = sources_.at(layer);
  InputMoments& sums = moments[source.group];
  const torch::Tensor rows = some_rows(x, source.generator);
  if (!source.selects) {
    sums.add(rows);
    return;
  }
  const torch::Tensor z = source.transform.apply(rows);
  const auto [kept, scale] = ops::sparsify24(z, norm_);
  sums.add(z, kept * scale.unsqueeze(1));
}

// [rows, K], or all of them where there are fewer.
torch::Tensor InputCollector::some_rows(const torch::Tensor& x,
                                        const at::Generator& generator) const {
  const torch::Tensor all = x.reshape({-1, x.size(-1)});
  if (all.size(0) <= rows_) return all;
  const torch::Tensor chosen =
      torch::randperm(all.size(0), generator, torch::TensorOptions().dtype(torch::kInt64))
          .narrow(0, 0, rows_);
  return all.index_select(0, chosen.to(all.device()));
}

}  // namespace rtlynx
