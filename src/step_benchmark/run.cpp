// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/run.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/chrono.h>
#include <torch/torch.h>

#include <ctime>
#include <functional>

#include "base/error.h"
#include "benchmark/device.h"
#include "layers/captured_step.h"
#include "step_benchmark/flux_step.h"
#include "step_benchmark/profile.h"

namespace rtlynx::step_benchmark {
namespace {

constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;

struct Allocated {
  double now_gib = 0.0;
  double peak_gib = 0.0;
};

Allocated allocated() {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(0);
  const auto& bytes = stats.allocated_bytes[0];  // of all pools
  return {static_cast<double>(bytes.current) / kGibibyte,
          static_cast<double>(bytes.peak) / kGibibyte};
}

/// A variant's step as a CUDA graph, and the function that it was captured from: it owns what the
/// graph reads.
struct CapturedVariant {
  std::function<torch::Tensor()> run;
  CapturedStep step;
};

/// Sets the variant's layers, and says how it runs.
VariantResult prepare(FluxStep& step, const StepVariant& variant, bool check) {
  VariantResult result{.variant = variant};
  const std::vector<const LayerGroup*> sparse =
      sparse_groups(variant, step.groups(), FluxStep::tokens(), gpu::current_device());
  for (const LayerGroup* group : sparse) {
    for (const GroupLayer& layer : group->layers) result.sparse_layers.push_back(layer.name);
  }
  apply(variant, sparse, *step.model());
  if (check) result.distances = step.distances();
  return result;
}

/// With the layers as prepare() left them.
CapturedVariant capture(FluxStep& step, VariantResult* result) {
  FluxFused fused(step.model());
  const FluxInputs inputs = step.inputs();
  const torch::Tensor rotation = fused.rotation(inputs.txt_ids, inputs.img_ids);
  std::function<torch::Tensor()> run = [fused, inputs, rotation]() mutable {
    return fused.forward(inputs, rotation);
  };
  c10::cuda::CUDACachingAllocator::emptyCache();
  c10::cuda::CUDACachingAllocator::resetPeakStats(0);
  const double before = allocated().now_gib;
  CapturedStep captured(run);
  result->activations_gib = allocated().peak_gib - before;
  result->ms_by_class = time_by_class([&] { captured.replay(); });
  return {std::move(run), std::move(captured)};
}

double time_steps(CapturedStep& step, int repeats) {
  step.replay();  // warm
  benchmark::Event begin, end;
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream().stream();
  begin.record(stream);
  for (int i = 0; i < repeats; ++i) step.replay();
  end.record(stream);
  end.synchronize();
  return end.microseconds_since(begin) * 1e-3 / repeats;
}

std::string device_name() {
  cudaDeviceProp properties{};
  benchmark::check_cuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties.name;
}

}  // namespace

StepResult run_step(const StepOptions& options, const StepEvents& events) {
  if (options.family != "flux") throw UsageError("--step: required flux, got " + options.family);
  const std::vector<StepVariant> variants = variants_named(options.variants);
  if (!CapturedStep::is_available()) fail("bench --step", "a GPU", "none");
  FluxStep step(options.seed);
  StepResult result{.family = options.family,
                    .gpu = device_name(),
                    .date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr))),
                    .tokens = FluxStep::tokens(),
                    .weights_gib = allocated().now_gib};
  std::vector<CapturedVariant> captured;
  for (const StepVariant& variant : variants) {
    result.variants.push_back(prepare(step, variant, options.check));
    captured.push_back(capture(step, &result.variants.back()));
    events.captured(variant.name);
  }
  for (int round = 0; round < options.rounds && events.may_begin(); ++round) {
    for (std::size_t i = 0; i < captured.size(); ++i) {
      result.variants[i].ms.push_back(time_steps(captured[i].step, options.repeats));
    }
    events.finished(result);
  }
  return result;
}

}  // namespace rtlynx::step_benchmark
