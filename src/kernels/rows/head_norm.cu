// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/cta.cuh"
#include "kernels/device/launch.h"
#include "kernels/device/vector.cuh"
#include "kernels/rows/params.h"

/// One CTA for a token of the joint attention: a group of lanes has a head, each lane eight
/// channels of it, whose angles it reads once for all heads.
namespace rtlynx::rows {
namespace {

using device::kVectorElements;

constexpr int kThreads = 256;

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

template <typename Element, int kGroup>
__global__ void __launch_bounds__(kThreads)
    head_norm_kernel(const __grid_constant__ HeadNormParams params) {
  device::let_next_grid_start();
  device::wait_for_previous_grid();
  const int token = blockIdx.x, image = blockIdx.y;
  const Source source = source_of(params, image, token);
  const std::int64_t target = static_cast<std::int64_t>(image) * params.image_tokens + token;
  const int head_vectors = params.head_dim / kVectorElements;
  const int part = static_cast<int>(threadIdx.x) % kGroup;
  const bool inside = part < head_vectors;
  float rotation[kVectorElements];
  load_rotation(params, token, part, rotation);

  for (int which = 0; which < 2; ++which) {
    const auto* const from =
        row_of(source.stream->source[which], source.stream->stride[which], source.row);
    auto* const to = row_of(params.target[which], params.stride[which], target);
    const void* const weight = source.stream->weight[which];
    const uint4 w = weight != nullptr && inside ? device::load_vector(weight, part) : uint4{};
    // Whole warps: the sums are of all their lanes.
    for (int first = 0; first < params.heads; first += kThreads / kGroup) {
      const int head = first + static_cast<int>(threadIdx.x) / kGroup;
      const bool works = inside && head < params.heads;
      const int vector = head * head_vectors + part;
      const uint4 bits = works ? device::load_vector(from, vector) : uint4{};
      const uint4 result = norm_head<Element, kGroup>(
          bits, w, weight != nullptr, rotation, static_cast<float>(params.head_dim), params.eps);
      if (works) device::store_vector(to, vector, result);
    }
  }
  if (params.target[2] == nullptr) return;
  const auto* const from = row_of(source.stream->source[2], source.stream->stride[2], source.row);
  auto* const to = row_of(params.target[2], params.stride[2], target);
  for (int i = threadIdx.x; i < params.heads * head_vectors; i += kThreads) {
    device::store_vector(to, i, device::load_vector(from, i));
  }
}

template <typename Element, int kGroup>
cudaError_t launch_lanes(const HeadNormParams& params, const Launch& launch) {
  const dim3 grid(static_cast<unsigned>(params.image_tokens), static_cast<unsigned>(params.images));
  return device::launch_early(head_norm_kernel<Element, kGroup>, grid, kThreads, params,
                              launch.compute_capability, launch.stream);
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
