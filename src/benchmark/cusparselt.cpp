// SPDX-License-Identifier: Apache-2.0
#include "benchmark/cusparselt.h"

#include <fmt/format.h>
#include <library_types.h>

#include <array>

#include "base/error.h"
#include "benchmark/device.h"
#include "benchmark/library.h"

namespace rtlynx::benchmark {
namespace {

// The binary interface, as cusparseLt.h declares it. Its structures are opaque blocks of 512 bytes;
// earlier versions had larger ones, so more than enough is set aside.
using Status = int;  // 0: success
struct alignas(64) Opaque {
  std::array<std::uint8_t, 16384> data{};
};

constexpr int kOrderRow = 2;          // CUSPARSE_ORDER_ROW
constexpr int kNotTransposed = 0;     // CUSPARSE_OPERATION_NON_TRANSPOSE
constexpr int kTransposed = 1;        // CUSPARSE_OPERATION_TRANSPOSE
constexpr int kCompute32F = 2;        // CUSPARSE_COMPUTE_32F
constexpr int kHalfSparse = 0;        // CUSPARSELT_SPARSITY_50_PERCENT
constexpr int kDefaultAlgorithm = 0;  // CUSPARSELT_MATMUL_ALG_DEFAULT
constexpr int kPruneStrip = 1;        // CUSPARSELT_PRUNE_SPMMA_STRIP

constexpr std::uint32_t kAlignment = 16;  // bytes
constexpr int kOldestVersion = 800;
constexpr std::size_t kWorkspaceBytes = std::size_t{256} << 20;
constexpr const char* kNames[] = {"libcusparseLt.so.0", "libcusparseLt.so"};
constexpr float kOne = 1, kZero = 0;

void check(Status status, const char* call) {
  if (status != 0) fail(call, "status 0", std::to_string(status));
}

}  // namespace

struct CusparseLt::Api {
  explicit Api(const std::vector<std::string>& folders) : library(kNames, folders) {
    library.load(init, "cusparseLtInit");
    library.load(destroy, "cusparseLtDestroy");
    library.load(get_version, "cusparseLtGetVersion");
    library.load(get_property, "cusparseLtGetProperty");
    library.load(init_structured, "cusparseLtStructuredDescriptorInit");
    library.load(init_dense, "cusparseLtDenseDescriptorInit");
    library.load(destroy_matrix, "cusparseLtMatDescriptorDestroy");
    library.load(init_matmul, "cusparseLtMatmulDescriptorInit");
    library.load(init_selection, "cusparseLtMatmulAlgSelectionInit");
    library.load(destroy_selection, "cusparseLtMatmulAlgSelectionDestroy");
    library.load(init_plan, "cusparseLtMatmulPlanInit");
    library.load(destroy_plan, "cusparseLtMatmulPlanDestroy");
    library.load(get_workspace, "cusparseLtMatmulGetWorkspace");
    library.load(get_compressed_size, "cusparseLtSpMMACompressedSize");
    library.load(prune, "cusparseLtSpMMAPrune");
    library.load(compress, "cusparseLtSpMMACompress");
    library.load(search, "cusparseLtMatmulSearch");
    library.load(matmul, "cusparseLtMatmul");
    check(init(&handle), "cusparseLtInit");
    if (get_version(&handle, &version) != 0 || version < kOldestVersion) {
      destroy(&handle);
      fail(library.path(), fmt::format("version {} or later", kOldestVersion),
           std::to_string(version));
    }
  }
  ~Api() { destroy(&handle); }
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  Library library;
  Opaque handle;
  int version = 0;

  Status (*init)(Opaque*);
  Status (*destroy)(const Opaque*);
  Status (*get_version)(const Opaque*, int*);
  Status (*get_property)(libraryPropertyType, int*);
  Status (*init_structured)(const Opaque*, Opaque* matrix, std::int64_t rows, std::int64_t columns,
                            std::int64_t leading, std::uint32_t alignment, cudaDataType, int order,
                            int sparsity);
  Status (*init_dense)(const Opaque*, Opaque* matrix, std::int64_t rows, std::int64_t columns,
                       std::int64_t leading, std::uint32_t alignment, cudaDataType, int order);
  Status (*destroy_matrix)(const Opaque*);
  Status (*init_matmul)(const Opaque*, Opaque* matmul, int operation_a, int operation_b,
                        const Opaque* a, const Opaque* b, const Opaque* c, const Opaque* d,
                        int compute);
  Status (*init_selection)(const Opaque*, Opaque* selection, const Opaque* matmul, int algorithm);
  Status (*destroy_selection)(const Opaque*);
  Status (*init_plan)(const Opaque*, Opaque* plan, const Opaque* matmul, const Opaque* selection);
  Status (*destroy_plan)(const Opaque*);
  Status (*get_workspace)(const Opaque*, const Opaque* plan, std::size_t*);
  Status (*get_compressed_size)(const Opaque*, const Opaque* plan, std::size_t* compressed,
                                std::size_t* scratch);
  Status (*prune)(const Opaque*, const Opaque* matmul, const void* in, void* out, int algorithm,
                  cudaStream_t);
  Status (*compress)(const Opaque*, const Opaque* plan, const void* dense, void* compressed,
                     void* scratch, cudaStream_t);
  Status (*search)(const Opaque*, Opaque* plan, const void* alpha, const void* a, const void* b,
                   const void* beta, const void* c, void* d, void* workspace, cudaStream_t*,
                   std::int32_t streams);
  Status (*matmul)(const Opaque*, const Opaque* plan, const void* alpha, const void* a,
                   const void* b, const void* beta, const void* c, void* d, void* workspace,
                   cudaStream_t*, std::int32_t streams);
};

CusparseLt::CusparseLt(const std::vector<std::string>& folders)
    : api_(std::make_unique<Api>(folders)) {}

CusparseLt::~CusparseLt() = default;

const std::string& CusparseLt::path() const { return api_->library.path(); }

// The one number of cusparseLtGetVersion is 1000 for 0.10.0 and for 1.0.0.
std::string CusparseLt::version() const {
  std::string version;
  for (const libraryPropertyType part : {MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL}) {
    int value = 0;
    check(api_->get_property(part, &value), "cusparseLtGetProperty");
    version += (version.empty() ? "" : ".") + std::to_string(value);
  }
  return version;
}

struct SparseMatmul::State {
  State(const CusparseLt& library, std::int64_t tokens, std::int64_t outputs, std::int64_t channels,
        DType dtype)
      : api(library.api()), workspace(kWorkspaceBytes) {
    const cudaDataType type = dtype == DType::f16 ? CUDA_R_16F : CUDA_R_16BF;
    check(api.init_structured(&api.handle, &x, tokens, channels, channels, kAlignment, type,
                              kOrderRow, kHalfSparse),
          "cusparseLtStructuredDescriptorInit");
    check(api.init_dense(&api.handle, &weight, outputs, channels, channels, kAlignment, type,
                         kOrderRow),
          "cusparseLtDenseDescriptorInit of W");
    check(api.init_dense(&api.handle, &y, tokens, outputs, outputs, kAlignment, type, kOrderRow),
          "cusparseLtDenseDescriptorInit of Y");
    check(api.init_matmul(&api.handle, &matmul, kNotTransposed, kTransposed, &x, &weight, &y, &y,
                          kCompute32F),
          "cusparseLtMatmulDescriptorInit");
    check(api.init_selection(&api.handle, &selection, &matmul, kDefaultAlgorithm),
          "cusparseLtMatmulAlgSelectionInit");
    check(api.init_plan(&api.handle, &plan, &matmul, &selection), "cusparseLtMatmulPlanInit");
    reserve_scratch();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void release() {
    api.destroy_plan(&plan);
    api.destroy_selection(&selection);
    for (const Opaque* matrix : {&x, &weight, &y}) api.destroy_matrix(matrix);
  }

  void reserve_scratch() {
    std::size_t scratch_bytes = 0;
    check(api.get_compressed_size(&api.handle, &plan, &compressed_bytes, &scratch_bytes),
          "cusparseLtSpMMACompressedSize");
    if (scratch_bytes > scratch.bytes()) scratch = DeviceBuffer(scratch_bytes);
  }

  const CusparseLt::Api& api;
  Opaque x, weight, y, matmul, selection, plan;
  DeviceBuffer workspace, scratch;
  std::size_t compressed_bytes = 0;
};

SparseMatmul::SparseMatmul(const CusparseLt& library, std::int64_t tokens, std::int64_t outputs,
                           std::int64_t channels, DType dtype)
    : state_(std::make_unique<State>(library, tokens, outputs, channels, dtype)) {}

SparseMatmul::~SparseMatmul() { state_->release(); }

void SparseMatmul::prune(const void* x, void* pruned, cudaStream_t stream) const {
  const auto& api = state_->api;
  check(api.prune(&api.handle, &state_->matmul, x, pruned, kPruneStrip, stream),
        "cusparseLtSpMMAPrune");
}

void SparseMatmul::search(const void* pruned, const void* weight, void* y, cudaStream_t stream) {
  const auto& api = state_->api;
  const DeviceBuffer compressed(state_->compressed_bytes);
  compress(pruned, compressed.data(), stream);
  check(api.search(&api.handle, &state_->plan, &kOne, compressed.data(), weight, &kZero, y, y,
                   state_->workspace.data(), &stream, 1),
        "cusparseLtMatmulSearch");
  check_cuda(cudaStreamSynchronize(stream), "cusparseLtMatmulSearch");
  std::size_t workspace_bytes = 0;
  check(api.get_workspace(&api.handle, &state_->plan, &workspace_bytes),
        "cusparseLtMatmulGetWorkspace");
  if (workspace_bytes > kWorkspaceBytes) {
    fail("cusparseLtMatmulSearch", fmt::format("a workspace of at most {} bytes", kWorkspaceBytes),
         std::to_string(workspace_bytes));
  }
  state_->reserve_scratch();
}

std::size_t SparseMatmul::compressed_bytes() const { return state_->compressed_bytes; }

void SparseMatmul::compress(const void* pruned, void* compressed, cudaStream_t stream) const {
  const auto& api = state_->api;
  check(
      api.compress(&api.handle, &state_->plan, pruned, compressed, state_->scratch.data(), stream),
      "cusparseLtSpMMACompress");
}

void SparseMatmul::run(const void* compressed, const void* weight, void* y,
                       cudaStream_t stream) const {
  const auto& api = state_->api;
  check(api.matmul(&api.handle, &state_->plan, &kOne, compressed, weight, &kZero, y, y,
                   state_->workspace.data(), &stream, 1),
        "cusparseLtMatmul");
}

}  // namespace rtlynx::benchmark
