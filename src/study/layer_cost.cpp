// SPDX-License-Identifier: Apache-2.0
#include "study/layer_cost.h"

#include "base/error.h"
#include "kernels/gemm/time_model.h"
#include "models/recipe.h"

namespace rtlynx {
namespace {

constexpr double kTransformShare = 0.05;  // of the pack, for blocks of kTransformBlock
constexpr double kTransformBlock = 64;

double multiplications(const LayerWork& work) {
  return static_cast<double>(work.tokens) * static_cast<double>(work.in_features) *
         static_cast<double>(work.out_features);
}

gpu::LinearTimes times_of(std::int64_t tokens, std::int64_t outputs, std::int64_t channels,
                          std::int64_t rank = 0) {
  return gpu::linear_times(
      {.tokens = tokens, .outputs = outputs, .channels = channels, .rank = static_cast<int>(rank)});
}

// A product with few outputs [M, K] x [K, r], which takes at least the reading of X.
double thin_us(std::int64_t tokens, std::int64_t rank, std::int64_t channels) {
  constexpr double kElementBytes = 2;
  const double bytes = kElementBytes * static_cast<double>(tokens) * static_cast<double>(channels);
  return times_of(tokens, rank, channels).dense_us +
         bytes / (gpu::kH200.terabytes_per_second * 1e6);
}

double pack_with_blocks_us(double pack_us, const torch::Tensor& blocks) {
  if (!blocks.defined()) return pack_us;
  return pack_us * (1 + kTransformShare * static_cast<double>(blocks.size(1)) / kTransformBlock);
}

LayerCost activation_us(const LayerWork& work, const Compensation24& values) {
  const gpu::LinearTimes times =
      times_of(work.tokens, work.out_features, work.in_features, values.rank());
  if (!times.sparse_us) return {.value = {}, .source = times.source};
  const double pack_us = pack_with_blocks_us(times.pack_us, values.transform.blocks);
  return {.value = *times.sparse_us + pack_us - times.pack_us, .source = times.source};
}

LayerCost pruned_us(const LayerWork& work, const Replacement& values) {
  const gpu::LinearTimes times =
      times_of(work.tokens, work.out_features, work.in_features, values.rank());
  if (!times.sparse_us) return {.value = {}, .source = times.source};
  const double low_rank =
      values.rank() > 0 ? thin_us(work.tokens, values.rank(), work.in_features) : 0.0;
  return {.value = *times.sparse_us - times.pack_us + low_rank,
          .source = "estimated: as a packed input's product without its pack"};
}

LayerCost fixed_us(const LayerWork& work, const Replacement& values) {
  double sum = 0;
  if (values.weight.defined()) {
    sum += times_of(work.tokens, work.out_features, values.weight.size(1)).dense_us;
  }
  if (values.axes.defined()) {
    sum += pack_with_blocks_us(times_of(work.tokens, work.out_features, work.in_features).pack_us,
                               values.axes);
  }
  if (values.rank() > 0) {
    sum += thin_us(work.tokens, values.rank(), work.in_features) +
           times_of(work.tokens, work.out_features, values.rank()).dense_us;
  }
  return {.value = sum, .source = "estimated"};
}

}  // namespace

std::string_view to_string(CostMeasure measure) {
  return measure == CostMeasure::time ? "time" : "multiplications";
}

CostMeasure cost_measure_from_string(std::string_view text) {
  if (text == "multiplications") return CostMeasure::multiplications;
  if (text == "time") return CostMeasure::time;
  throw UsageError("cost: required multiplications or time, got " + std::string(text));
}

std::map<std::string, LayerWork> layer_work(Pipeline& pipeline, const DenseTrajectory& trajectory,
                                            int pictures) {
  std::map<std::string, LayerWork> work;
  std::vector<NamedLinear> linears = named_linears(*pipeline.transformer);
  for (auto& [name, linear] : linears) {
    work[name] = {.in_features = linear->in_features(), .out_features = linear->out_features()};
    linear->set_observer([&, layer = name](const torch::Tensor& x) {
      work[layer].tokens += x.numel() / x.size(-1);
    });
  }
  const DenseTrajectory::Step& record = trajectory.records.front();
  {
    const torch::InferenceMode inference;
    pipeline.transformer(record.inputs);
  }
  for (auto& [name, linear] : linears) {
    linear->set_observer({});
    work[name].tokens = work[name].tokens * pictures / static_cast<std::int64_t>(record.prompts);
  }
  return work;
}

double relative_flops(const LayerCompensation& layer, const LayerWork& work) {
  if (layer.replacement) {
    return layer.replacement->relative_flops(work.in_features, work.out_features);
  }
  const auto k = static_cast<double>(work.in_features), n = static_cast<double>(work.out_features);
  const double low_rank = static_cast<double>(layer.values.rank()) * (k + n);
  const torch::Tensor& blocks = layer.values.transform.blocks;
  const double transform =
      blocks.defined() ? work.input_share * k * static_cast<double>(blocks.size(1)) : 0.0;
  return 0.5 + (low_rank + transform) / (k * n);
}

LayerCost dense_cost(CostMeasure measure, const LayerWork& work) {
  if (measure == CostMeasure::multiplications) {
    return {.value = multiplications(work), .source = "counted"};
  }
  const gpu::LinearTimes times = times_of(work.tokens, work.out_features, work.in_features);
  return {.value = times.dense_us, .source = times.source};
}

LayerCost layer_cost(CostMeasure measure, const LayerWork& work, const LayerCompensation& layer) {
  if (measure == CostMeasure::multiplications) {
    return {.value = relative_flops(layer, work) * multiplications(work), .source = "counted"};
  }
  if (!layer.replacement) return activation_us(work, layer.values);
  return layer.replacement->sparse ? pruned_us(work, *layer.replacement)
                                   : fixed_us(work, *layer.replacement);
}

}  // namespace rtlynx
