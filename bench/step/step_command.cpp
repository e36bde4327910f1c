// SPDX-License-Identifier: Apache-2.0
#include "step/step_command.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "io/file.h"
#include "layers/captured_step.h"
#include "step/flux_step.h"
#include "step/profile.h"
#include "step/variants.h"

namespace rtlynx::benchmark {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;
constexpr double kWorstOverPlain = 2.0;

/// One variant, captured.
struct Captured {
  StepVariant variant;
  std::vector<std::string> sparse_layers;
  std::optional<FluxFused> fused;
  std::optional<CapturedStep> step;
  std::optional<FluxStep::Distances> distances;
  double activations_gib = 0.0;
  std::vector<double> ms;
  std::map<std::string, double> classes;
};

double allocated_gib(bool peak) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(0);
  const auto& bytes = stats.allocated_bytes[0];  // of all pools
  return static_cast<double>(peak ? bytes.peak : bytes.current) / kGibibyte;
}

std::vector<StepVariant> wanted_variants(const StepOptions& options) {
  std::vector<StepVariant> wanted;
  for (const StepVariant& variant : step_variants()) {
    const bool named = std::find(options.variants.begin(), options.variants.end(), variant.name) !=
                       options.variants.end();
    if (options.variants.empty() || named) wanted.push_back(variant);
  }
  if (!options.variants.empty() && wanted.size() != options.variants.size()) {
    throw UsageError("bench --step: required variants among dense, paper, paper-block64 and "
                     "best-block64, got others");
  }
  return wanted;
}

Captured capture(FluxStep& step, const StepVariant& variant, bool check) {
  Captured captured{.variant = variant};
  const std::vector<const LayerGroup*> sparse =
      sparse_groups(variant, step.groups(), FluxStep::tokens(), gpu::current_device());
  for (const LayerGroup* group : sparse) {
    for (const GroupLayer& layer : group->layers) captured.sparse_layers.push_back(layer.name);
  }
  apply(variant, sparse, *step.model());
  if (check) captured.distances = step.distances();
  captured.fused.emplace(step.model());
  const torch::Tensor rotation =
      captured.fused->rotation(step.inputs().txt_ids, step.inputs().img_ids);
  c10::cuda::CUDACachingAllocator::emptyCache();
  c10::cuda::CUDACachingAllocator::resetPeakStats(0);
  const double before = allocated_gib(false);
  FluxFused* const fused = &*captured.fused;
  const FluxInputs inputs = step.inputs();
  captured.step.emplace([fused, inputs, rotation] { return fused->forward(inputs, rotation); });
  captured.activations_gib = allocated_gib(true) - before;
  captured.classes = time_by_class([&] { captured.step->replay(); });
  return captured;
}

double time_steps(CapturedStep& step, int repeats) {
  step.replay();
  torch::cuda::synchronize();
  cudaEvent_t begin = nullptr, end = nullptr;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  const auto stream = c10::cuda::getCurrentCUDAStream().stream();
  cudaEventRecord(begin, stream);
  for (int i = 0; i < repeats; ++i) step.replay();
  cudaEventRecord(end, stream);
  cudaEventSynchronize(end);
  float total = 0.0f;
  cudaEventElapsedTime(&total, begin, end);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return total / static_cast<double>(repeats);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

/// Another process may run between two rounds: then this one waits for its turn.
bool wait_for_turn(const StepOptions& options) {
  std::string line;
  return !options.turns || static_cast<bool>(std::getline(std::cin, line));
}

Json describe(const Captured& captured) {
  Json row{{"name", captured.variant.name},
           {"rank", captured.variant.sparse ? captured.variant.rank : 0},
           {"transform_block", captured.variant.transform_block},
           {"ms", median(captured.ms)},
           {"ms_rounds", captured.ms},
           {"activations_gib", captured.activations_gib},
           {"ms_by_class", captured.classes},
           {"sparse_layers", captured.sparse_layers}};
  if (captured.distances) {
    row["distance_to_fp32"] = captured.distances->fused;
    row["distance_of_plain_path_to_fp32"] = captured.distances->plain;
  }
  return row;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

Json report(const std::vector<Captured>& all, double weights_gib) {
  cudaDeviceProp properties{};
  cudaGetDeviceProperties(&properties, 0);
  Json variants = Json::array();
  for (const Captured& captured : all) variants.push_back(describe(captured));
  return {{"family", "flux"},
          {"gpu", properties.name},
          {"date", today()},
          {"dtype", "bf16"},
          {"image_tokens", FluxStep::tokens().image},
          {"text_tokens", FluxStep::tokens().text},
          {"batch", 1},
          {"weights_gib", weights_gib},
          {"variants", variants}};
}

void print_rows(const std::vector<Captured>& all) {
  for (const Captured& captured : all) {
    fmt::print("{:14} {:8.2f} ms, {} sparse layers;", captured.variant.name, median(captured.ms),
               captured.sparse_layers.size());
    for (const auto& [kind, ms] : captured.classes) fmt::print(" {} {:.1f}", kind, ms);
    if (captured.distances) {
      fmt::print("; {:.4f} from fp32, the plain path {:.4f}", captured.distances->fused,
                 captured.distances->plain);
    }
    fmt::print("\n");
  }
}

void refuse_wrong(const std::vector<Captured>& all) {
  for (const Captured& captured : all) {
    if (!captured.distances) continue;
    const auto& [fused, plain] = *captured.distances;
    if (fused <= kWorstOverPlain * plain) continue;
    fail("bench --step, " + captured.variant.name,
         fmt::format("at most {} from fp32, twice the plain path", kWorstOverPlain * plain),
         fmt::format("{}", fused));
  }
}

}  // namespace

void run_step(const StepOptions& options) {
  if (options.family != "flux") {
    throw UsageError("bench --step: required flux, got " + options.family);
  }
  const std::vector<StepVariant> variants = wanted_variants(options);
  if (!CapturedStep::is_available()) fail("bench --step", "a GPU", "none");
  FluxStep step(options.seed);
  const double weights_gib = allocated_gib(false);
  std::vector<Captured> all;
  for (const StepVariant& variant : variants) {
    all.push_back(capture(step, variant, options.check));
    if (!options.turns) fmt::print("{} captured\n", variant.name);
  }
  if (options.turns) std::cout << Json{{"ready", true}}.dump() << std::endl;
  for (int round = 0; round < options.rounds && wait_for_turn(options); ++round) {
    Json line = Json::object();
    for (Captured& captured : all) {
      captured.ms.push_back(time_steps(*captured.step, options.repeats));
      line[captured.variant.name] = captured.ms.back();
    }
    if (options.turns) std::cout << line.dump() << std::endl;
  }
  if (!options.json.empty()) {
    write_file_atomically(options.json, report(all, weights_gib).dump(1) + "\n");
  }
  if (!options.turns) print_rows(all);
  refuse_wrong(all);
}

}  // namespace rtlynx::benchmark
