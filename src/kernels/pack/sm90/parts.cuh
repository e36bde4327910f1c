// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/pack/sm90/traits.cuh"
#include "kernels/pack/token_pair.cuh"

namespace rtlynx::pack::sm90 {

/// What CTAs have added up for their pieces of a block of tokens, in device memory. The CTA that is
/// the last to leave its part adds up all of them, in a fixed order: the same bits every time. No
/// CTA waits for another.
template <typename T>
class Parts {
 public:
  using Element = typename T::Element;

  __device__ Parts(const Params& params, const Sharing& sharing, int block)
      : params_(params), sharing_(sharing), block_(block) {
    first_cta_ = sharing.runs.first_cta(block);
    count_ = sharing.runs.last_cta(block) - first_cta_ + 1;
  }

  /// By all threads: the sums of the thread's two tokens, which its quad shares, and what it has of
  /// H. Writes s and H / s, if all parts of the block are there.
  __device__ __forceinline__ void finish(TokenSums upper, TokenSums lower,
                                         float (&low)[T::kLowRegisters]) const {
    if (count_ > 1) {
      leave(upper, lower, low);
      if (!all_arrived()) return;
      upper = gather_sums(block_row_of_thread());
      lower = gather_sums(block_row_of_thread() + 8);
#pragma unroll
      for (int i = 0; i < kEights; i += kEightsAtOnce) gather_low(i, low);
    }
    const int token = block_ * kTileTokens + block_row_of_thread();
    write(token, upper, low);
    write(token + 8, lower, low + 2);
  }

 private:
  static constexpr int kEights = T::kRank / 8;  // of columns
  // On their way at once, as registers allow.
  static constexpr int kPartsAtOnce = 8;
  static constexpr int kEightsAtOnce = T::kCtasPerSm == 1 ? 4 : 2;

  __device__ float4* part(int cta) const {
    const std::int64_t index = part_of(blockIdx.y * gridDim.x + cta, cta == first_cta_);
    return sharing_.parts + index * T::kPartVectors;
  }

  __device__ __forceinline__ void leave(const TokenSums& upper, const TokenSums& lower,
                                        const float (&low)[T::kLowRegisters]) const {
    float4* const own = part(blockIdx.x);
    if (threadIdx.x % 4 == 0) {
      own[block_row_of_thread()] = upper.to_float4();
      own[block_row_of_thread() + 8] = lower.to_float4();
    }
#pragma unroll
    for (int i = 0; i < kEights; ++i) {
      const float* const four = low + 4 * i;
      own[kTileTokens + i * kThreads + threadIdx.x] = {four[0], four[1], four[2], four[3]};
    }
  }

  __device__ __forceinline__ bool all_arrived() const {
    __syncthreads();
    bool last = false;
    if (threadIdx.x == 0) {
      last = device::count_up(sharing_.arrivals + blockIdx.y * gridDim.x + first_cta_, count_);
    }
    return __syncthreads_or(last) != 0;
  }

  /// Of a token, by its quad: each lane adds up every fourth part.
  __device__ __forceinline__ TokenSums gather_sums(int row) const {
    TokenSums sums;
    for (int begin = 0; begin < count_; begin += kPartsAtOnce) {
      float4 parts[kPartsAtOnce / 4] = {};
#pragma unroll
      for (int i = 0; i < kPartsAtOnce / 4; ++i) {
        const int index = begin + 4 * i + static_cast<int>(threadIdx.x) % 4;
        if (index < count_) parts[i] = __ldcg(part(first_cta_ + index) + row);
      }
      for (const float4& values : parts) sums.add(TokenSums::from(values));
    }
    sums.add_quad();
    return sums;
  }

  __device__ __forceinline__ void gather_low(int eight, float (&low)[T::kLowRegisters]) const {
#pragma unroll
    for (int i = 0; i < 4 * kEightsAtOnce; ++i) low[4 * eight + i] = 0.0f;
    for (int begin = 0; begin < count_; begin += kPartsAtOnce) {
      float4 parts[kPartsAtOnce][kEightsAtOnce] = {};
#pragma unroll
      for (int i = 0; i < kPartsAtOnce; ++i) {
        if (begin + i >= count_) continue;
        const float4* const source = part(first_cta_ + begin + i) + kTileTokens + threadIdx.x;
#pragma unroll
        for (int k = 0; k < kEightsAtOnce; ++k) {
          parts[i][k] = __ldcg(source + (eight + k) * kThreads);
        }
      }
#pragma unroll
      for (int i = 0; i < kPartsAtOnce; ++i) {
#pragma unroll
        for (int k = 0; k < kEightsAtOnce; ++k) {
          float* const four = low + 4 * (eight + k);
          const float4& v = parts[i][k];
          four[0] += v.x, four[1] += v.y, four[2] += v.z, four[3] += v.w;
        }
      }
    }
  }

  /// Of a token, whose pairs of columns of H are at every fourth of `low`.
  __device__ __forceinline__ void write(int token, const TokenSums& sums, const float* low) const {
    if (token >= params_.tokens) return;
    const float s = scale_of(params_, token, params_.restores_norm ? sums.scale() : 1.0f);
    if (threadIdx.x % 4 == 0 && blockIdx.y == 0) params_.scale[token] = s * params_.weight_unit;
    auto* const row = static_cast<std::uint16_t*>(params_.low) + token * params_.low_stride;
#pragma unroll
    for (int i = 0; i < kEights; ++i) {
      const int column = first_column<T>() + 8 * i + static_cast<int>(threadIdx.x) % 4 * 2;
      if (column >= params_.low_columns) return;
      *reinterpret_cast<std::uint32_t*>(row + column) =
          Element::from_float2({low[4 * i] / s, low[4 * i + 1] / s});
    }
  }

  const Params& params_;
  const Sharing& sharing_;
  int block_;
  int first_cta_;
  int count_;
};

}  // namespace rtlynx::pack::sm90
