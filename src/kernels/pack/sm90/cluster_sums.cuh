// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/device/shared.cuh"
#include "kernels/pack/sharing.h"
#include "kernels/pack/sm90/traits.cuh"
#include "kernels/pack/token_pair.cuh"

namespace rtlynx::pack::sm90 {

/// What the CTAs of a cluster have added up for the slices of their block of tokens, each in its
/// own shared memory, where all can read it. Each CTA adds up a share of the tokens, in the order
/// of their channels.
template <typename T>
class ClusterSums {
 public:
  using Element = typename T::Element;

  /// `base`: of shared memory that nothing else uses any more.
  __device__ ClusterSums(const Params& params, int block, std::uint32_t base)
      : params_(params), first_token_(block * kTileTokens), base_(base) {}

  /// By all threads of the cluster: the sums of the thread's two tokens, which its quad shares, and
  /// what it has of H. Writes s and H / s.
  __device__ __forceinline__ void finish(const TokenSums& upper, const TokenSums& lower,
                                         const float (&low)[T::kLowRegisters]) const {
    __syncthreads();  // all have read the stages
    leave(upper, lower, low);
    device::cluster_sync();
    constexpr int kParts = T::kRank > 0 ? T::kRank / 4 : 1;  // of a token: four columns of H
    const int cta = device::cluster_rank(), ctas = device::cluster_size();
    const int first = kTileTokens * cta / ctas, end = kTileTokens * (cta + 1) / ctas;
    for (int i = threadIdx.x; i < (end - first) * kParts; i += kThreads) {
      add_up(ctas, first + i / kParts, i % kParts);
    }
  }

 private:
  static constexpr int kSumBytes = kTileTokens * 16;
  // Eight floats more than a row of H: rows of a store lie in different banks.
  static constexpr int kLowPitch = (T::kRank + 8) * 4;
  static_assert(kSumBytes + kTileTokens * (T::kRank > 0 ? kLowPitch : 0) <= T::kBeyondOffset);

  __device__ std::uint32_t sums_address(int row) const { return base_ + row * 16; }
  __device__ std::uint32_t low_address(int row, int column) const {
    return base_ + kSumBytes + row * kLowPitch + column * 4;
  }

  __device__ __forceinline__ void leave(const TokenSums& upper, const TokenSums& lower,
                                        const float (&low)[T::kLowRegisters]) const {
    const int row = block_row_of_thread();
    const auto store = [&](int row, const TokenSums& sums) {
      const float4 v = sums.to_float4();
      device::store_shared_vector(
          sums_address(row),
          make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), 0));
    };
    if (threadIdx.x % 4 == 0) {
      store(row, upper);
      store(row + 8, lower);
    }
    const std::uint32_t target = low_address(row, static_cast<int>(threadIdx.x) % 4 * 2);
#pragma unroll
    for (int i = 0; i < T::kRank / 8; ++i) {
      const float* const four = low + 4 * i;
      device::store_shared(target + 32 * i, float2{four[0], four[1]});
      device::store_shared(target + 32 * i + 8 * kLowPitch, float2{four[2], four[3]});
    }
  }

  /// What the CTAs have at `own` in their shared memory, all on the way at once; zeros beyond the
  /// last CTA.
  static __device__ __forceinline__ void load(int ctas, std::uint32_t own,
                                              float4 (&parts)[kLargestCluster]) {
#pragma unroll
    for (int i = 0; i < kLargestCluster; ++i) {
      parts[i] = {};
      if (i < ctas) device::load_cluster(own, i, parts[i]);
    }
  }

  /// A thread for four columns of H of a token; that of the first ones writes s.
  __device__ __forceinline__ void add_up(int ctas, int row, int part) const {
    const int token = first_token_ + row;
    if (token >= params_.tokens) return;
    float4 sums[kLargestCluster], low[kLargestCluster];
    if (params_.restores_norm) load(ctas, sums_address(row), sums);
    if constexpr (T::kRank > 0) load(ctas, low_address(row, 4 * part), low);
    float s = 1.0f;
    if (params_.restores_norm) {
      TokenSums total;
      for (const float4& values : sums) total.add(TokenSums::from(values));
      s = total.scale();
    }
    s = scale_of(params_, token, s);
    if (part == 0 && blockIdx.y == 0) params_.scale[token] = s * params_.weight_unit;
    const int column = first_column<T>() + 4 * part;
    if (T::kRank == 0 || column >= params_.low_columns) return;
    float4 h{0.0f, 0.0f, 0.0f, 0.0f};
    for (const float4& v : low) h = {h.x + v.x, h.y + v.y, h.z + v.z, h.w + v.w};
    auto* const target =
        static_cast<std::uint16_t*>(params_.low) + token * params_.low_stride + column;
    *reinterpret_cast<uint2*>(target) = make_uint2(Element::from_float2({h.x / s, h.y / s}),
                                                   Element::from_float2({h.z / s, h.w / s}));
  }

  const Params& params_;
  int first_token_;
  std::uint32_t base_;
};

}  // namespace rtlynx::pack::sm90
