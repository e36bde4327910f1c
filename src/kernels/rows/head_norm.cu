// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/device/cta.cuh"
#include "kernels/device/launch.h"
#include "kernels/device/vector.cuh"
#include "kernels/rows/params.h"

/// As many CTAs as run at once walk over the tokens of the joint attention. A group of lanes has a
/// head, each lane eight channels of its q, k and v; the next token's are on their way while it
/// works.
namespace rtlynx::rows {
namespace {

using device::kVectorElements;

constexpr int kMostThreads = 384;  // 24 heads of 128 channels

/// Where a token comes from.
struct Source {
  const HeadStreamParams* stream;
  std::int64_t row;  // of the stream's matrices
};

__device__ Source source_of(const HeadNormParams& params, int image, int token) {
  int index = 0;
  if (params.stream_count > 1 && token >= params.streams[0].tokens) {
    token -= params.streams[0].tokens;
    index = 1;
  }
  const HeadStreamParams& stream = params.streams[index];
  return {&stream, static_cast<std::int64_t>(image) * stream.tokens + token};
}

/// Norms and turns this lane's part of a head. All lanes of the group take part; those beyond the
/// head hold zeros.
template <typename Element, int kGroup>
__device__ uint4 norm_head(const uint4& bits, const uint4& weight, bool has_weight,
                           const float (&rotation)[kVectorElements], float head_dim, float eps) {
  float x[kVectorElements];
  device::widen<Element>(bits, x);
  float squares = 0.0f;
#pragma unroll
  for (const float value : x) squares = fmaf(value, value, squares);
#pragma unroll
  for (int offset = kGroup / 2; offset > 0; offset /= 2) {
    squares += __shfl_xor_sync(0xffffffffu, squares, offset);
  }
  const float rate = rsqrtf(squares / head_dim + eps);
#pragma unroll
  for (float& value : x) value *= rate;
  device::widen<Element>(device::narrow<Element>(x), x);
  if (has_weight) {
    float w[kVectorElements];
    device::widen<Element>(weight, w);
#pragma unroll
    for (int k = 0; k < kVectorElements; ++k) x[k] *= w[k];
    device::widen<Element>(device::narrow<Element>(x), x);
  }
#pragma unroll
  for (int k = 0; k < kVectorElements; k += 2) {
    const float a = x[k], b = x[k + 1], cosine = rotation[k], sine = rotation[k + 1];
    // Products and sums rounded one by one, as the specification has them.
    x[k] = __fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine));
    x[k + 1] = __fadd_rn(__fmul_rn(b, cosine), __fmul_rn(a, sine));
  }
  return device::narrow<Element>(x);
}

/// This lane's angles: cosine and sine of four pairs.
__device__ void load_rotation(const HeadNormParams& params, int token, int part,
                              float (&rotation)[kVectorElements]) {
#pragma unroll
  for (int k = 0; k < kVectorElements; ++k) rotation[k] = k % 2 == 0 ? 1.0f : 0.0f;
  if (params.rotation == nullptr || part * kVectorElements >= params.head_dim) return;
  const auto* const row = reinterpret_cast<const float4*>(
      params.rotation + static_cast<std::int64_t>(token) * params.head_dim + part * 8);
  const float4 low = __ldg(row), high = __ldg(row + 1);
  rotation[0] = low.x, rotation[1] = low.y, rotation[2] = low.z, rotation[3] = low.w;
  rotation[4] = high.x, rotation[5] = high.y, rotation[6] = high.z, rotation[7] = high.w;
}

__device__ const std::uint16_t* row_of(const void* matrix, std::int64_t stride, std::int64_t row) {
  return static_cast<const std::uint16_t*>(matrix) + stride * row;
}
__device__ std::uint16_t* row_of(void* matrix, std::int64_t stride, std::int64_t row) {
  return static_cast<std::uint16_t*>(matrix) + stride * row;
}

/// This lane's part of a token: of q and k, or of q, k and v.
template <int kMatrices>
struct Part {
  uint4 bits[kMatrices];
};

template <int kMatrices>
__device__ Part<kMatrices> load_part(const Source& source, int vector) {
  Part<kMatrices> part;
#pragma unroll
  for (int which = 0; which < kMatrices; ++which) {
    part.bits[which] = device::load_vector(
        row_of(source.stream->source[which], source.stream->stride[which], source.row), vector);
  }
  return part;
}

template <typename Element, int kGroup, int kMatrices>
__global__ void __launch_bounds__(kMostThreads, kMatrices == 3 ? 2 : 3)  // more would spill
    head_norm_kernel(const __grid_constant__ HeadNormParams params) {
  device::let_next_grid_start();
  device::wait_for_previous_grid();
  const int head_vectors = params.head_dim / kVectorElements;
  const int part = static_cast<int>(threadIdx.x) % kGroup;
  const int head = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) / kGroup;
  const int image = blockIdx.z, vector = head * head_vectors + part;
  const bool inside = part < head_vectors, works = inside && head < params.heads;

  Part<kMatrices> next = {};
  if (works) next = load_part<kMatrices>(source_of(params, image, blockIdx.x), vector);
  for (int token = blockIdx.x; token < params.image_tokens; token += gridDim.x) {
    Part<kMatrices> own = next;
    const int after = token + static_cast<int>(gridDim.x);
    if (works && after < params.image_tokens) {
      next = load_part<kMatrices>(source_of(params, image, after), vector);
    }
    float rotation[kVectorElements];
    load_rotation(params, token, part, rotation);
    const HeadStreamParams& stream = *source_of(params, image, token).stream;
    const std::int64_t target = static_cast<std::int64_t>(image) * params.image_tokens + token;
#pragma unroll
    for (int which = 0; which < kMatrices; ++which) {
      if (which < 2) {  // v stays as it is
        const void* const weight = stream.weight[which];
        const uint4 w = weight != nullptr && inside ? device::load_vector(weight, part) : uint4{};
        // Whole warps: the sums are of all their lanes.
        own.bits[which] =
            norm_head<Element, kGroup>(own.bits[which], w, weight != nullptr, rotation,
                                       static_cast<float>(params.head_dim), params.eps);
      }
      if (!works) continue;
      device::store_vector(row_of(params.target[which], params.stride[which], target), vector,
                           own.bits[which]);
    }
  }
}

/// CTAs along the heads and the lanes of each: as few and no more than needed.
struct Heads {
  int ctas;
  int threads;
};
Heads share_out(int heads, int group) {
  const int ctas = (heads * group + kMostThreads - 1) / kMostThreads;
  const int lanes = (heads + ctas - 1) / ctas * group;
  return {ctas, (lanes + 31) / 32 * 32};
}

template <typename Element, int kGroup, int kMatrices>
cudaError_t launch_matrices(const HeadNormParams& params, const Launch& launch) {
  const auto kernel = head_norm_kernel<Element, kGroup, kMatrices>;
  const Heads heads = share_out(params.heads, kGroup);
  int resident = 0;  // CTAs on a multiprocessor
  const cudaError_t status =
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, heads.threads, 0);
  if (status != cudaSuccess) return status;
  const int at_once = resident * launch.multiprocessors / (heads.ctas * params.images);
  const dim3 grid(static_cast<unsigned>(std::clamp(at_once, 1, params.image_tokens)),
                  static_cast<unsigned>(heads.ctas), static_cast<unsigned>(params.images));
  return device::launch_early(kernel, grid, heads.threads, params, launch.compute_capability,
                              launch.stream);
}

template <typename Element, int kGroup>
cudaError_t launch_lanes(const HeadNormParams& params, const Launch& launch) {
  return params.target[2] == nullptr ? launch_matrices<Element, kGroup, 2>(params, launch)
                                     : launch_matrices<Element, kGroup, 3>(params, launch);
}

/// A group has a power of two of lanes.
template <typename Element>
cudaError_t launch_group(const HeadNormParams& params, const Launch& launch) {
  const int vectors = params.head_dim / kVectorElements;
  if (vectors <= 8) return launch_lanes<Element, 8>(params, launch);
  if (vectors <= 16) return launch_lanes<Element, 16>(params, launch);
  return launch_lanes<Element, 32>(params, launch);
}

}  // namespace

cudaError_t launch_head_norm(DType dtype, const HeadNormParams& params, const Launch& launch) {
  return dtype == DType::bf16 ? launch_group<Bf16>(params, launch)
                              : launch_group<F16>(params, launch);
}

}  // namespace rtlynx::rows
