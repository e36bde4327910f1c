// SPDX-License-Identifier: Apache-2.0
#include "benchmark/tuning.h"

#include <optional>
#include <system_error>

#include "io/file.h"

namespace rtlynx::benchmark {
namespace {

std::optional<gpu::TunedGemm24> fastest(const std::vector<SweepEntry>& sweep) {
  std::optional<gpu::TunedGemm24> best;
  for (const SweepEntry& entry : sweep) {
    if (!entry.figure.timing) continue;
    const double microseconds = entry.figure.timing->burst.median;
    if (!best || microseconds < best->microseconds) best = {entry.config, microseconds};
  }
  return best;
}

}  // namespace

void insert_fastest(const RunResult& run, gpu::TuneCache& cache) {
  for (const ShapeResult& result : run.shapes) {
    const auto best = fastest(result.sweep);
    if (!best) continue;
    const gpu::Gemm24Shape shape{.tokens = result.shape.tokens,
                                 .outputs = result.shape.outputs,
                                 .channels = result.shape.channels,
                                 .dtype = run.dtype == "f16" ? DType::f16 : DType::bf16};
    cache.insert(run.gpu, run.device, shape, *best);
  }
}

void keep_fastest(const RunResult& run, const std::filesystem::path& path) {
  std::error_code said_by_save;
  if (path.has_parent_path()) {
    std::filesystem::create_directories(path.parent_path(), said_by_save);
  }
  const FolderLock lock(path.parent_path());
  gpu::TuneCache cache = gpu::TuneCache::load(path);
  insert_fastest(run, cache);
  cache.save(path);
}

}  // namespace rtlynx::benchmark
