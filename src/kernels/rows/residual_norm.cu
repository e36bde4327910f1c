// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/cta.cuh"
#include "kernels/device/launch.h"
#include "kernels/device/vector.cuh"
#include "kernels/rows/params.h"

/// One CTA for a row, which stays in registers as it is stored: h is read and written once, and its
/// mean is known before the squares are taken.
namespace rtlynx::rows {
namespace {

using device::kVectorElements;

constexpr int kMostWarps = 8;
constexpr int kMostVectors = 16;  // of a thread

/// The sum over the CTA, in a fixed order; every thread gets it. `shared`: of this sum alone.
__device__ float cta_sum(float value, float (&shared)[kMostWarps]) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  if (blockDim.x == 32) return value;
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += shared[warp];
  return sum;
}

template <typename Element, int kVectors>
class Row {
 public:
  __device__ Row(const ResidualNormParams& params, int token)
      : params_(params),
        token_(token),
        image_(static_cast<unsigned>(token) / params.image_tokens),
        vectors_(params.columns / kVectorElements) {}

  __device__ void run() {
    __shared__ float sums[3][kMostWarps];
    load(params_.x, params_.x_stride * token_, h_);
    if (params_.y != nullptr) add_branch(sums[0]);
    if (params_.h != nullptr) store(params_.h, params_.h_stride * token_);
    if (params_.moments == nullptr && params_.normed == nullptr) return;

    const float count = static_cast<float>(params_.columns);
    const float mean = params_.centred ? cta_sum(sum_of_values(), sums[1]) / count : 0.0f;
    const float squares = cta_sum(sum_of_squares(h_, mean), sums[2]);
    const float rate = rsqrtf(squares / count + params_.eps);
    if (params_.moments != nullptr && threadIdx.x == 0) params_.moments[token_] = {mean, rate};
    if (params_.normed != nullptr) write_normed(mean, rate);
  }

 private:
  using Bits = uint4[kVectors];
  using Values = float[kVectorElements];

  /// This thread's vector i of the row; those of neighbours are neighbours.
  __device__ int vector(int i) const { return threadIdx.x + i * blockDim.x; }
  __device__ bool exists(int i) const { return vector(i) < vectors_; }

  static __device__ const void* at(const void* matrix, std::int64_t element) {
    return static_cast<const std::uint16_t*>(matrix) + element;
  }

  __device__ void load(const void* matrix, std::int64_t element, Bits& bits) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (exists(i)) bits[i] = device::load_vector(at(matrix, element), vector(i));
    }
  }

  __device__ void store(void* matrix, std::int64_t element) const {
    auto* const row = static_cast<std::uint16_t*>(matrix) + element;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (exists(i)) device::store_vector(row, vector(i), h_[i]);
    }
  }

  __device__ float sum_of_values() const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (!exists(i)) break;
      Values h;
      device::widen<Element>(h_[i], h);
#pragma unroll
      for (const float value : h) sum += value;
    }
    return sum;
  }

  /// Of what lies around `mean`.
  __device__ float sum_of_squares(const Bits& bits, float mean) const {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (!exists(i)) break;
      Values values;
      device::widen<Element>(bits[i], values);
#pragma unroll
      for (const float value : values) squares = fmaf(value - mean, value - mean, squares);
    }
    return squares;
  }

  /// A vector of a row that may not be there.
  __device__ void load_or(const void* row, std::int64_t element, int i, float otherwise,
                          Values& values) const {
    if (row == nullptr) {
#pragma unroll
      for (float& value : values) value = otherwise;
    } else {
      device::widen<Element>(device::load_vector(at(row, element), vector(i)), values);
    }
  }

  /// h <- x + g * p, rounded: what follows reads h as it is stored.
  __device__ void add_branch(float (&shared)[kMostWarps]) {
    Bits y;
    load(params_.y, params_.y_stride * token_, y);
    float rate = 1.0f;
    if (params_.post_weight != nullptr) {
      const float squares = cta_sum(sum_of_squares(y, 0.0f), shared);
      rate = rsqrtf(squares / static_cast<float>(params_.columns) + params_.post_eps);
    }
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (!exists(i)) break;
      Values h, branch, gate, weight;
      device::widen<Element>(h_[i], h);
      device::widen<Element>(y[i], branch);
      load_or(params_.gate, params_.gate_stride * image_, i, 1.0f, gate);
      load_or(params_.post_weight, 0, i, 1.0f, weight);
#pragma unroll
      for (int k = 0; k < kVectorElements; ++k) {
        const bool turns = params_.tanh_gate && params_.gate != nullptr;
        const float g = turns ? tanhf(gate[k]) : gate[k];
        h[k] = fmaf(g, branch[k] * rate * weight[k], h[k]);
        if constexpr (Element::kInfinity == F16::kInfinity) {
          // NaN stays: both comparisons are false.
          if (h[k] > 65504.0f) h[k] = 65504.0f;
          if (h[k] < -65504.0f) h[k] = -65504.0f;
        }
      }
      h_[i] = device::narrow<Element>(h);
    }
  }

  __device__ void write_normed(float mean, float rate) {
    auto* const row = static_cast<std::uint16_t*>(params_.normed) + params_.normed_stride * token_;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (!exists(i)) break;
      Values h, weight, scale, shift;
      device::widen<Element>(h_[i], h);
      load_or(params_.weight, 0, i, 1.0f, weight);
      load_or(params_.scale, params_.scale_stride * image_, i, 0.0f, scale);
      load_or(params_.shift, params_.shift_stride * image_, i, 0.0f, shift);
#pragma unroll
      for (int k = 0; k < kVectorElements; ++k) {
        h[k] = fmaf((h[k] - mean) * rate, weight[k] * (1.0f + scale[k]), shift[k]);
      }
      device::store_vector(row, vector(i), device::narrow<Element>(h));
    }
  }

  const ResidualNormParams& params_;
  int token_;
  std::int64_t image_;
  int vectors_;
  Bits h_;  // x, then h
};

template <typename Element, int kVectors>
__global__ void __launch_bounds__(32 * kMostWarps)
    residual_norm_kernel(const __grid_constant__ ResidualNormParams params) {
  device::let_next_grid_start();
  device::wait_for_previous_grid();
  Row<Element, kVectors>(params, blockIdx.x).run();
}

template <typename Element, int kVectors>
cudaError_t launch_vectors(const ResidualNormParams& params, const Launch& launch) {
  const int vectors = params.columns / kVectorElements;
  const int threads = ((vectors + kVectors - 1) / kVectors + 31) / 32 * 32;
  const dim3 grid(static_cast<unsigned>(params.tokens));
  return device::launch_early(residual_norm_kernel<Element, kVectors>, grid, threads, params,
                              launch.compute_capability, launch.stream);
}

template <typename Element>
cudaError_t launch_columns(const ResidualNormParams& params, const Launch& launch) {
  const int vectors = params.columns / kVectorElements;
  if (vectors <= 64) return launch_vectors<Element, 2>(params, launch);
  if (vectors <= 1024) return launch_vectors<Element, 4>(params, launch);
  return launch_vectors<Element, kMostVectors>(params, launch);
}

}  // namespace

cudaError_t launch_residual_norm(DType dtype, const ResidualNormParams& params,
                                 const Launch& launch) {
  return dtype == DType::bf16 ? launch_columns<Bf16>(params, launch)
                              : launch_columns<F16>(params, launch);
}

}  // namespace rtlynx::rows
