// SPDX-License-Identifier: Apache-2.0
#include "benchmark/cublaslt.h"

#include <library_types.h>

#include <limits>

#include "base/error.h"
#include "benchmark/device.h"
#include "benchmark/library.h"

namespace rtlynx::benchmark {
namespace {

// The binary interface, as cublasLt.h declares it.
using Status = int;  // 0: success
using Handle = struct HandleTag*;
using MatmulDesc = struct MatmulDescTag*;
using MatrixLayout = struct MatrixLayoutTag*;
using Preference = struct PreferenceTag*;

struct Algorithm {
  std::uint64_t data[8];
};

struct HeuristicResult {
  Algorithm algorithm;
  std::size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Algorithm) == 64 && sizeof(HeuristicResult) == 96);

constexpr int kCompute32F = 68;             // CUBLAS_COMPUTE_32F
constexpr int kTransposeAttribute = 3;      // CUBLASLT_MATMUL_DESC_TRANSA
constexpr int kEpilogueAttribute = 7;       // CUBLASLT_MATMUL_DESC_EPILOGUE
constexpr int kBiasPointerAttribute = 8;    // CUBLASLT_MATMUL_DESC_BIAS_POINTER
constexpr int kWeightScaleAttribute = 17;   // CUBLASLT_MATMUL_DESC_A_SCALE_POINTER
constexpr int kTokenScaleAttribute = 18;    // CUBLASLT_MATMUL_DESC_B_SCALE_POINTER
constexpr int kFastAttribute = 25;          // CUBLASLT_MATMUL_DESC_FAST_ACCUM
constexpr int kWeightModeAttribute = 31;    // CUBLASLT_MATMUL_DESC_A_SCALE_MODE
constexpr int kTokenModeAttribute = 32;     // CUBLASLT_MATMUL_DESC_B_SCALE_MODE
constexpr std::int32_t kOneForEachRow = 3;  // CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F
constexpr int kMaxWorkspacePreference = 1;  // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
constexpr std::int32_t kTranspose = 1;      // CUBLAS_OP_T
constexpr std::uint32_t kEpilogueBias = 4;  // CUBLASLT_EPILOGUE_BIAS

constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
constexpr int kMaxAlgorithms = 64;
constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

void check(Status status, const char* call) {
  if (status != 0) fail(call, "status 0", std::to_string(status));
}

cudaDataType_t type_of(DType dtype) {
  if (dtype == DType::e4m3) return CUDA_R_8F_E4M3;
  return dtype == DType::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

}  // namespace

struct CublasLt::Api {
  explicit Api(const std::vector<std::string>& folders) : library(kNames, folders) {
    library.load(create, "cublasLtCreate");
    library.load(destroy, "cublasLtDestroy");
    library.load(get_version, "cublasLtGetVersion");
    library.load(create_desc, "cublasLtMatmulDescCreate");
    library.load(destroy_desc, "cublasLtMatmulDescDestroy");
    library.load(set_desc, "cublasLtMatmulDescSetAttribute");
    library.load(create_layout, "cublasLtMatrixLayoutCreate");
    library.load(destroy_layout, "cublasLtMatrixLayoutDestroy");
    library.load(create_preference, "cublasLtMatmulPreferenceCreate");
    library.load(destroy_preference, "cublasLtMatmulPreferenceDestroy");
    library.load(set_preference, "cublasLtMatmulPreferenceSetAttribute");
    library.load(get_heuristic, "cublasLtMatmulAlgoGetHeuristic");
    library.load(matmul, "cublasLtMatmul");
    check(create(&handle), "cublasLtCreate");
  }
  ~Api() { destroy(handle); }
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  Library library;
  Handle handle = nullptr;

  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  std::size_t (*get_version)();
  Status (*create_desc)(MatmulDesc*, int compute, cudaDataType_t scale);
  Status (*destroy_desc)(MatmulDesc);
  Status (*set_desc)(MatmulDesc, int attribute, const void*, std::size_t);
  Status (*create_layout)(MatrixLayout*, cudaDataType_t, std::uint64_t rows, std::uint64_t columns,
                          std::int64_t leading);
  Status (*destroy_layout)(MatrixLayout);
  Status (*create_preference)(Preference*);
  Status (*destroy_preference)(Preference);
  Status (*set_preference)(Preference, int attribute, const void*, std::size_t);
  Status (*get_heuristic)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c,
                          MatrixLayout d, Preference, int wanted, HeuristicResult*, int* found);
  Status (*matmul)(Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout,
                   const void* b, MatrixLayout, const void* beta, const void* c, MatrixLayout,
                   void* d, MatrixLayout, const Algorithm*, void* workspace, std::size_t,
                   cudaStream_t);
};

CublasLt::CublasLt(const std::vector<std::string>& folders)
    : api_(std::make_unique<Api>(folders)) {}

CublasLt::~CublasLt() = default;

const std::string& CublasLt::path() const { return api_->library.path(); }

std::string CublasLt::version() const { return std::to_string(api_->get_version()); }

// cuBLASLt is column-major: our row-major Y [M, N] is its D (N x M) = W^T-transposed times X.
struct DenseMatmul::State {
  State(const CublasLt& library, const DenseProblem& problem)
      : api(library.api()), workspace(kWorkspaceBytes) {
    const cudaDataType_t type = type_of(problem.dtype);
    const bool is_e4m3 = problem.dtype == DType::e4m3;
    const auto tokens = static_cast<std::uint64_t>(problem.tokens);
    const auto outputs = static_cast<std::uint64_t>(problem.outputs);
    const auto channels = static_cast<std::uint64_t>(problem.channels);
    check(api.create_desc(&desc, kCompute32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    set(kTransposeAttribute, kTranspose);
    if (problem.bias != nullptr) {
      set(kEpilogueAttribute, kEpilogueBias);
      set(kBiasPointerAttribute, problem.bias);
    }
    if (is_e4m3) set(kFastAttribute, std::int8_t{1});
    if (problem.token_scale != nullptr) {
      set(kWeightScaleAttribute, problem.weight_scale);
      set(kTokenScaleAttribute, problem.token_scale);
      set(kWeightModeAttribute, kOneForEachRow);
      set(kTokenModeAttribute, kOneForEachRow);
    }
    check(api.create_layout(&weight, type, channels, outputs, problem.channels), "layout of W");
    check(api.create_layout(&x, type, channels, tokens, problem.channels), "layout of X");
    check(api.create_layout(&y, is_e4m3 ? CUDA_R_16BF : type, outputs, tokens, problem.outputs),
          "layout of Y");
  }
  ~State() {
    if (y != nullptr) api.destroy_layout(y);
    if (x != nullptr) api.destroy_layout(x);
    if (weight != nullptr) api.destroy_layout(weight);
    if (desc != nullptr) api.destroy_desc(desc);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  template <typename Value>
  void set(int attribute, Value value) {
    check(api.set_desc(desc, attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute");
  }

  void find_algorithms() {
    Preference preference = nullptr;
    check(api.create_preference(&preference), "cublasLtMatmulPreferenceCreate");
    std::vector<HeuristicResult> results(kMaxAlgorithms);
    int found = 0;
    Status status = api.set_preference(preference, kMaxWorkspacePreference, &kWorkspaceBytes,
                                       sizeof(kWorkspaceBytes));
    if (status == 0) {
      status = api.get_heuristic(api.handle, desc, weight, x, y, y, preference, kMaxAlgorithms,
                                 results.data(), &found);
    }
    api.destroy_preference(preference);
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    for (int i = 0; i < found; ++i) {
      const HeuristicResult& result = results[static_cast<std::size_t>(i)];
      if (result.state == 0) algorithms.push_back(result.algorithm);
    }
    require(!algorithms.empty(), "cuBLASLt", "an algorithm for this shape", "none");
    chosen = algorithms.front();
  }

  Status run(const Algorithm& algorithm, const void* input, const void* weights, void* output,
             cudaStream_t stream) const {
    const float one = 1, zero = 0;
    return api.matmul(api.handle, desc, &one, weights, weight, input, x, &zero, output, y, output,
                      y, &algorithm, workspace.data(), kWorkspaceBytes, stream);
  }

  const CublasLt::Api& api;
  DeviceBuffer workspace;
  MatmulDesc desc = nullptr;
  MatrixLayout weight = nullptr, x = nullptr, y = nullptr;
  std::vector<Algorithm> algorithms;
  Algorithm chosen{};
};

DenseMatmul::DenseMatmul(const CublasLt& library, const DenseProblem& problem)
    : state_(std::make_unique<State>(library, problem)) {
  state_->find_algorithms();
}

DenseMatmul::~DenseMatmul() = default;

double DenseMatmul::search(const Measure& measure, const void* x, const void* weight, void* y,
                           cudaStream_t stream) {
  double fastest = std::numeric_limits<double>::infinity();
  Algorithm chosen{};
  for (const Algorithm& algorithm : state_->algorithms) {
    if (state_->run(algorithm, x, weight, y, stream) != 0) continue;
    const double time =
        measure([&] { check(state_->run(algorithm, x, weight, y, stream), "cublasLtMatmul"); });
    if (time < fastest) {
      fastest = time;
      chosen = algorithm;
    }
  }
  require(fastest < std::numeric_limits<double>::infinity(), "cuBLASLt",
          "an algorithm that runs on these operands", "none");
  state_->chosen = chosen;
  return fastest;
}

void DenseMatmul::run(const void* x, const void* weight, void* y, cudaStream_t stream) const {
  check(state_->run(state_->chosen, x, weight, y, stream), "cublasLtMatmul");
}

}  // namespace rtlynx::benchmark
