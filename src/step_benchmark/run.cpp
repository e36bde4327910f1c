// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/run.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/chrono.h>

#include <ctime>
#include <functional>
#include <memory>

#include "base/error.h"
#include "base/libtorch.h"
#include "benchmark/device.h"
#include "layers/captured_step.h"
#include "step_benchmark/family.h"
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

/// Rows of each stream in all pictures.
StreamTokens rows_of(const FamilyStep& step, std::int64_t batch) {
  return {.image = batch * step.tokens().image, .text = batch * step.tokens().text};
}

/// Sets the variant's layers, and says how it runs.
VariantResult prepare(FamilyStep& step, const StepVariant& variant, const StepOptions& options) {
  VariantResult result{.variant = variant};
  const std::vector<const LayerGroup*> sparse =
      sparse_groups(variant, step.groups(), rows_of(step, options.batch), gpu::current_device());
  for (const LayerGroup* group : sparse) {
    for (const GroupLayer& layer : group->layers) result.sparse_layers.push_back(layer.name);
  }
  apply(variant, sparse, step.model());
  if (options.check) result.distances = step.distances();
  return result;
}

/// With the layers as prepare() left them.
CapturedVariant capture(FamilyStep& step, VariantResult* result) {
  std::function<torch::Tensor()> run = step.fused_pass();
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
  const StepFamily& family = step_family_named(options.family);
  const std::vector<StepVariant> variants = variants_named(options.variants);
  if (!CapturedStep::is_available()) fail("bench --step", "a GPU", "none");
  torch::manual_seed(options.seed);
  const StepShape shape{.side = options.side.value_or(family.side), .batch = options.batch};
  const std::unique_ptr<FamilyStep> step =
      family.make(shape, torch::TensorOptions().dtype(torch::kBFloat16).device(torch::kCUDA));
  StepResult result{.family = options.family,
                    .gpu = device_name(),
                    .date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr))),
                    .tokens = step->tokens(),
                    .side = shape.side,
                    .batch = shape.batch,
                    .checked = step->checked_blocks(),
                    .weights_gib = allocated().now_gib};
  std::vector<CapturedVariant> captured;
  for (const StepVariant& variant : variants) {
    result.variants.push_back(prepare(*step, variant, options));
    captured.push_back(capture(*step, &result.variants.back()));
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
