// SPDX-License-Identifier: Apache-2.0
#include "benchmark/run.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "benchmark/sections.h"

namespace rtlynx::benchmark {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{512} << 20;
constexpr int kCopyRepeats = 9;

// Bytes read and written per second.
double measure_copy(Timer& timer) {
  const DeviceBuffer from(kCopyBytes), to(kCopyBytes);
  const double microseconds = timer.cold_median(
      [&] {
        check_cuda(cudaMemcpyAsync(to.data(), from.data(), kCopyBytes, cudaMemcpyDeviceToDevice,
                                   timer.stream()),
                   "cudaMemcpyAsync");
      },
      kCopyRepeats);
  return 2 * static_cast<double>(kCopyBytes) / (microseconds * 1e-6);
}

std::string device_name() {
  int ordinal = 0;
  cudaDeviceProp properties{};
  check_cuda(cudaGetDevice(&ordinal), "cudaGetDevice");
  check_cuda(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  return properties.name;
}

std::vector<Rival> describe(const Libraries& libraries) {
  Rival cublaslt{.name = "cublaslt", .missing = libraries.cublaslt_missing};
  if (libraries.cublaslt != nullptr) {
    cublaslt.version = libraries.cublaslt->version();
    cublaslt.path = libraries.cublaslt->path();
  }
  Rival cusparselt{.name = "cusparselt", .missing = libraries.cusparselt_missing};
  if (libraries.cusparselt != nullptr) {
    cusparselt.version = libraries.cusparselt->version();
    cusparselt.path = libraries.cusparselt->path();
  }
  return {cublaslt, cusparselt};
}

class Benchmark {
 public:
  explicit Benchmark(const Options& options)
      : options_(options),
        timer_(stream_, {.repeats = options.burst_repeats(), .sustained_ms = options.sustained_ms},
               monitor_),
        libraries_(options.library_folders),
        device_(gpu::current_device()) {}

  RunResult run(const Progress& progress) {
    RunResult result = describe_run();
    check_small_pack(options_.element(), options_.seed, timer_.stream());
    result.copy_bytes_per_second = measure_copy(timer_);
    result.before = monitor_.read();
    const std::vector<Shape> shapes = options_.shapes();
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      progress(static_cast<int>(i), static_cast<int>(shapes.size()), shapes[i].name);
      try {
        result.shapes.push_back(run_shape(shapes[i], &result.failures));
      } catch (const Error& error) {
        result.failures.push_back(shapes[i].name + ": " + error.what());
        cudaGetLastError();
        if (cudaDeviceSynchronize() != cudaSuccess) break;  // no call will work any more
      }
    }
    progress(static_cast<int>(shapes.size()), static_cast<int>(shapes.size()), "");
    result.after = monitor_.read();
    return result;
  }

 private:
  RunResult describe_run() const {
    RunResult result;
    result.gpu = device_name();
    result.device = device_;
    result.driver = monitor_.driver();
    result.monitor_missing = monitor_.missing();
    result.date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)));
    result.dtype = options_.dtype;
    result.repeats = options_.burst_repeats();
    result.sustained_ms = options_.sustained_ms;
    result.seed = options_.seed;
    result.rivals = describe(libraries_);
    return result;
  }

  /// What nothing inside the pack can produce has nothing to fuse.
  bool wants(const std::string& section, const Shape& shape) const {
    return options_.wants(section) && (section != "fused" || shape.producer != Producer::none);
  }

  ShapeResult run_shape(const Shape& shape, std::vector<std::string>* failures) {
    Contenders contenders(shape, options_, libraries_, device_, timer_);
    ShapeResult result{.shape = shape, .gemm = contenders.gemm, .linear = contenders.linear};
    ShapeChecks checks(contenders, options_.seed, timer_.stream());
    result.checks = checks.check_all(wants("fused", shape));
    const auto add_checks = [&](const auto& problem) {
      if (problem == nullptr) return;
      const std::vector<Check> own = problem->check(options_.seed, timer_.stream());
      result.checks.insert(result.checks.end(), own.begin(), own.end());
    };
    add_checks(contenders.e4m3);
    add_checks(contenders.weight);
    add_checks(contenders.e4m3_weight);
    for (const char* section :
         {"gemm", "pack", "linear", "fused", "e4m3", "weight", "e4m3-weight"}) {
      if (wants(section, shape)) {
        result.sections.push_back(time_section(section, contenders, timer_));
      }
    }
    if (options_.sweep) {
      result.sweep = sweep(contenders, device_, checks, timer_, failures);
    }
    return result;
  }

  const Options& options_;
  Stream stream_;
  GpuMonitor monitor_;
  Timer timer_;
  Libraries libraries_;
  gpu::DeviceTraits device_;
};

}  // namespace

std::string why_no_gpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return count == 0 ? "no CUDA device" : "";
}

RunResult run_benchmark(const Options& options, const Progress& progress) {
  const std::string missing = why_no_gpu();
  if (!missing.empty()) fail("GPU benchmark", "a CUDA device", missing);
  return Benchmark(options).run(progress);
}

}  // namespace rtlynx::benchmark
