// SPDX-License-Identifier: Apache-2.0
// CUTLASS's own sparse collective for Hopper on the shapes of the paper's Table 2, with its own
// compressor for what goes online: JSON. In turns with searched cuBLASLt; compared with fp64 before
// it is timed. Built where RTLYNX_CUTLASS names CUTLASS's folder.
#include <cutlass/cutlass.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/version.h>

#include <array>
#include <cstdio>
#include <cute/tensor.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/transform/device/transform_universal_adapter.hpp>
#include <cutlass/transform/kernel/sparse_gemm_compressor.hpp>
#include <cutlass/util/packed_stride.hpp>
#include <exception>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "benchmark/cublaslt.h"
#include "benchmark/fill.h"
#include "benchmark/gpu_monitor.h"
#include "benchmark/sampler.h"
#include "benchmark/shapes.h"
#include "benchmark/timing.h"
#include "kernels/plain/sparsify24.h"
#include "rtlynx/gpu/device.h"

namespace {

using namespace rtlynx::benchmark;
using cutlass::arch::Sm90;
using cutlass::layout::ColumnMajor;
using cutlass::layout::RowMajor;
using rtlynx::DType;
using Element = cutlass::bfloat16_t;
using Sparse = cutlass::arch::OpClassSparseTensorOp;

constexpr int kRepeats = 21, kSearchRepeats = 5;

void check(cutlass::Status status, const char* call) {
  if (status != cutlass::Status::kSuccess) {
    rtlynx::fail(call, "success", cutlassGetStatusString(status));
  }
}

/// X~ W^T with X~ [M, K] compressed, W [N, K] and Y [M, N].
class Collective {
 public:
  virtual ~Collective() = default;
  virtual std::string name() const = 0;
  /// How many tiles walk together: 1, 2, 4 or 8.
  virtual void set_swizzle(int size) = 0;
  virtual void compress(cudaStream_t stream) = 0;
  virtual void run(cudaStream_t stream) = 0;
};

struct Operands {
  Element* pruned = nullptr;  // [M, K]
  Element* weight = nullptr;  // [N, K]
  Element* y = nullptr;       // [M, N]
};

template <int kM, int kN, int kK>
class CollectiveOf : public Collective {
  using Problem = cute::Shape<int, int, int, int>;
  using Tile = cute::Shape<cute::Int<kM>, cute::Int<kN>, cute::Int<kK>>;
  using Cluster = cute::Shape<cute::_2, cute::_1, cute::_1>;
  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      Sm90, Sparse, Tile, Cluster, cutlass::epilogue::collective::EpilogueTileAuto, float, float,
      void, RowMajor, 8, Element, RowMajor, 8,
      cutlass::epilogue::TmaWarpSpecializedCooperative>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      Sm90, Sparse, Element, RowMajor, 16, Element, ColumnMajor, 8, float, Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(
          sizeof(typename Epilogue::SharedStorage))>,
      cutlass::gemm::KernelTmaWarpSpecializedCooperative>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Problem, Mainloop, Epilogue>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
  using Config = typename Mainloop::SparseConfig;
  using Utility = cutlass::transform::kernel::StructuredSparseCompressorUtility<Problem, Element,
                                                                                RowMajor, Config>;
  using Compressor = cutlass::transform::device::TransformUniversalAdapter<
      cutlass::transform::kernel::StructuredSparseCompressor<Problem, Element, RowMajor, Config,
                                                             Sm90>>;

 public:
  CollectiveOf(const Shape& shape, const Operands& operands)
      : problem_(static_cast<int>(shape.tokens), static_cast<int>(shape.all_outputs()),
                 static_cast<int>(shape.channels), 1),
        operands_(operands) {
    const auto [m, n, k, l] = problem_;
    const auto stride =
        cutlass::make_cute_packed_stride(typename Utility::StrideA{}, cute::make_shape(m, k, l));
    const Utility utility(problem_, stride);
    values_ = DeviceBuffer(utility.get_compressed_tensor_A_bytes());
    metadata_ = DeviceBuffer(utility.get_tensor_E_bytes());
    hardware_.sm_count = rtlynx::gpu::current_device().multiprocessors;
    const typename Compressor::Arguments arguments{problem_,
                                                   {operands_.pruned, stride, values_.as<Element>(),
                                                    metadata_.as<typename Mainloop::ElementE>()},
                                                   {hardware_}};
    check(compressor_.can_implement(arguments), "CUTLASS's compressor");
    compressor_workspace_ = DeviceBuffer(Compressor::get_workspace_size(arguments));
    check(compressor_.initialize(arguments, compressor_workspace_.data()), "CUTLASS's compressor");
    set_swizzle(1);
  }

  std::string name() const override {
    return std::to_string(kM) + "x" + std::to_string(kN) + "x" + std::to_string(kK);
  }

  void set_swizzle(int size) override {
    const auto [m, n, k, l] = problem_;
    typename Gemm::Arguments arguments{
        cutlass::gemm::GemmUniversalMode::kGemm,
        problem_,
        {values_.as<Element>(), Config::fill_layoutA(problem_), operands_.weight,
         cutlass::make_cute_packed_stride(typename Kernel::StrideB{}, cute::make_shape(n, k, l)),
         metadata_.as<typename Mainloop::ElementE>(), Config::fill_layoutE(problem_)},
        {{1.0f, 0.0f},
         nullptr,
         {},
         operands_.y,
         cutlass::make_cute_packed_stride(typename Kernel::StrideD{}, cute::make_shape(m, n, l))},
        hardware_};
    arguments.scheduler.max_swizzle_size = size;
    check(gemm_.can_implement(arguments), "CUTLASS's collective");
    gemm_workspace_ = DeviceBuffer(Gemm::get_workspace_size(arguments));
    check(gemm_.initialize(arguments, gemm_workspace_.data()), "CUTLASS's collective");
  }

  void compress(cudaStream_t stream) override {
    check(compressor_.run(stream), "CUTLASS's compressor");
  }
  void run(cudaStream_t stream) override { check(gemm_.run(stream), "CUTLASS's collective"); }

 private:
  Problem problem_;
  Operands operands_;
  cutlass::KernelHardwareInfo hardware_;
  DeviceBuffer values_, metadata_, gemm_workspace_, compressor_workspace_;
  Compressor compressor_;
  Gemm gemm_;
};

/// The fastest tile and swizzle, X~ compressed for it.
std::unique_ptr<Collective> search(const Shape& shape, const Operands& operands, Timer& timer,
                                   std::string* name) {
  std::array<std::unique_ptr<Collective>, 2> candidates = {
      std::make_unique<CollectiveOf<128, 256, 64>>(shape, operands),
      std::make_unique<CollectiveOf<256, 128, 128>>(shape, operands)};
  double least = std::numeric_limits<double>::infinity();
  std::size_t best = 0;
  int best_swizzle = 1;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    candidates[i]->compress(timer.stream());
    for (const int swizzle : {1, 2, 4, 8}) {
      candidates[i]->set_swizzle(swizzle);
      const double time =
          timer.cold_median([&] { candidates[i]->run(timer.stream()); }, kSearchRepeats);
      if (time >= least) continue;
      least = time, best = i, best_swizzle = swizzle;
    }
  }
  candidates[best]->set_swizzle(best_swizzle);
  *name = candidates[best]->name() + " cluster 2 swizzle " + std::to_string(best_swizzle);
  return std::move(candidates[best]);
}

/// A matrix of random bf16 in device memory.
DeviceBuffer random_matrix(std::int64_t rows, std::int64_t columns, const Normal& distribution,
                           cudaStream_t stream) {
  DeviceBuffer matrix(static_cast<std::size_t>(rows * columns) * sizeof(Element));
  fill_normal(matrix.data(), DType::bf16, rows * columns, distribution, stream);
  return matrix;
}

nlohmann::ordered_json measure(const Shape& shape, const CublasLt& cublaslt, Timer& timer) {
  const std::int64_t m = shape.tokens, n = shape.all_outputs(), k = shape.channels;
  const cudaStream_t stream = timer.stream();
  const DeviceBuffer x = random_matrix(m, k, {.seed = 1}, stream);
  const DeviceBuffer weight = random_matrix(n, k, {.deviation = 0.02f, .seed = 2}, stream);
  const DeviceBuffer pruned(x.bytes()), y(static_cast<std::size_t>(m * n) * sizeof(Element));
  check_cuda(
      rtlynx::launch_sparsify24(
          {.x = x.data(), .kept = pruned.data(), .dtype = DType::bf16, .rows = m, .columns = k},
          stream),
      "sparsify24");
  std::string name;
  const std::unique_ptr<Collective> collective =
      search(shape, {pruned.as<Element>(), weight.as<Element>(), y.as<Element>()}, timer, &name);

  const Sampler sampler(m, n, DType::bf16, /*seed=*/3);
  const SampledProduct product{
      .a = pruned.data(), .weight = weight.data(), .channels = k, .ends = {n}};
  const std::vector<double> exact = sampler.exact(product, stream);
  check_cuda(cudaMemsetAsync(y.data(), 0xff, y.bytes(), stream), "cudaMemsetAsync");  // NaN
  collective->run(stream);
  const double error = relative_error(sampler.gather(y.data(), stream), exact);
  const double allowed = 2 * relative_error(sampler.plain(product, stream), exact);
  if (!(error <= allowed)) {
    rtlynx::fail(shape.name, "at most " + std::to_string(allowed) + " from fp64",
                 std::to_string(error));
  }

  DenseMatmul dense(cublaslt, {.tokens = m, .outputs = n, .channels = k, .dtype = DType::bf16});
  dense.search([&](const auto& call) { return timer.cold_median(call, kSearchRepeats); }, x.data(),
               weight.data(), y.data(), stream);
  const std::array<Call, 4> calls = {
      [&](int) { dense.run(x.data(), weight.data(), y.data(), stream); },
      [&](int) { collective->run(stream); }, [&](int) { collective->compress(stream); },
      [&](int) { collective->compress(stream), collective->run(stream); }};
  const std::vector<Timing> times = timer.time(calls, /*sets=*/1);
  return {{"m", m},
          {"n", n},
          {"k", k},
          {"configuration", name},
          {"error", error},
          {"allowed", allowed},
          {"cublaslt_us", times[0].burst.median},
          {"product_us", times[1].burst.median},
          {"compress_us", times[2].burst.median},
          {"together_us", times[3].burst.median}};
}

nlohmann::ordered_json measure_all() {
  const Stream stream;
  const GpuMonitor monitor;
  Timer timer(stream, {.repeats = kRepeats, .sustained_ms = 1}, monitor);
  const CublasLt cublaslt({});
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Shape& shape : shapes_of("paper")) rows.push_back(measure(shape, cublaslt, timer));
  return {{"cutlass", std::to_string(CUTLASS_MAJOR) + "." + std::to_string(CUTLASS_MINOR) + "." +
                          std::to_string(CUTLASS_PATCH)},
          {"cublaslt", cublaslt.version()},
          {"shapes", std::move(rows)}};
}

}  // namespace

int main() {
  try {
    std::puts(measure_all().dump(1).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cutlass_collective: %s\n", error.what());
    return 1;
  }
  return 0;
}
