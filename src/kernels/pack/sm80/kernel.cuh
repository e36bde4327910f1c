// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/pack/sm80/staging.cuh"
#include "kernels/pack/token_pair.cuh"

/// The portable pack kernel: a CTA has all channels of 64 tokens, a warp 16 of them. What a thread
/// holds (token_pair.cuh) are fragments of A for products over permuted channels: instruction g of
/// 4 takes channels 16 t + 4 g .. + 3 of lanes t of each quad.
namespace rtlynx::pack::sm80 {

/// One CTA's pass over its tokens.
template <typename T>
class Packer {
 public:
  using Element = typename T::Element;
  using Bits = typename Element::Bits;

  __device__ Packer(const Params& params, char* shared)
      : params_(params),
        stager_(params, device::shared_address(shared)),
        steps_((params.tiles + T::kStepTiles - 1) / T::kStepTiles),
        packed_(params.operand + static_cast<std::int64_t>(blockIdx.x) * kPackedTileBytes) {
    const int token = static_cast<int>(blockIdx.x) * kTokens + row_of_thread();
    place_ = {token, token < params.tokens, token + 8 < params.tokens};
  }

  __device__ __forceinline__ void run() {
    beyond()[0] = beyond()[1] = {0.0f, 0.0f, 0.0f, 0.0f};
    TokenPair ahead[T::kStepTiles];
    load(0, ahead);
    stage_first();
    for (int step = 0; step < steps_; ++step) {
      TokenPair x[T::kStepTiles];
#pragma unroll
      for (int tile = 0; tile < T::kStepTiles; ++tile) x[tile] = ahead[tile];
      load(step + 1, ahead);
      process(step, x);
    }
    finish();
  }

 private:
  static __device__ PairSums::Beyond& beyond() {
    __shared__ PairSums::Beyond sums[kThreads];
    return sums[threadIdx.x];
  }

  __device__ Producer producer() const {
    if constexpr (T::kProducer == kAnyProducer) return params_.producer;
    return static_cast<Producer>(T::kProducer);
  }

  __device__ __forceinline__ void load(int step, TokenPair (&x)[T::kStepTiles]) const {
    if (step >= steps_) return;
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      x[tile] = load_input(params_, place_, channel_of(step * T::kStepTiles + tile));
    }
  }

  __device__ __forceinline__ void stage_first() const {
    if constexpr (T::kStaged) {
#pragma unroll
      for (int stage = 0; stage < T::kStages - 1; ++stage) {
        if (stage < steps_) stager_.load(stage, stage);
        device::cp_async_commit();
      }
    }
  }

  /// Waits for this step's stage and starts to fill the one that the step before has left.
  __device__ __forceinline__ int next_stage(int step) const {
    if constexpr (T::kStaged) {
      device::cp_async_wait<T::kStages - 2>();
      __syncthreads();
      const int ahead = step + T::kStages - 1;
      if (ahead < steps_) stager_.load(ahead, ahead % T::kStages);
      device::cp_async_commit();
    }
    return step % T::kStages;
  }

  __device__ __forceinline__ void process(int step, TokenPair (&x)[T::kStepTiles]) {
    const int stage = next_stage(step);
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      produce<Element>(producer(), params_, place_, channel_of(step * T::kStepTiles + tile),
                       x[tile]);
    }
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      const int at = step * T::kStepTiles + tile;
      if (at >= params_.tiles) break;
      if constexpr (T::kTransform > 0) {
        keep(at, transform(stage, tile, x));
      } else {
        keep(at, x[tile]);
      }
      multiply_low(stage, tile, x[tile]);
    }
  }

  /// Output tile of z = x A. Columns of A are taken in the order that leaves 16 neighbouring
  /// channels of z in a thread: column 8 j + n of the product is channel 16 (n / 2) + 2 j + n % 2.
  __device__ __forceinline__ TokenPair transform(int stage, int output_tile,
                                                 const TokenPair (&x)[T::kStepTiles]) const {
    const int n = threadIdx.x % 32 / 4;
    TokenPair z;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      float d[4] = {};
#pragma unroll
      for (int input_tile = 0; input_tile < T::kStepTiles; ++input_tile) {
        multiply_tile<Element>(d, x[input_tile], stager_.transform(stage, output_tile, input_tile),
                               16 * (n / 2) + 2 * j + n % 2);
      }
      z.upper[j] = Element::from_float2({d[0], d[1]});
      z.lower[j] = Element::from_float2({d[2], d[3]});
    }
    return z;
  }

  __device__ __forceinline__ void keep(int tile, const TokenPair& z) {
    const Selected selected = select<Element>(z);
    if (blockIdx.y == 0) {
      packed_.store(selected);
      packed_.advance(params_.tile_stride);
      if (params_.z != nullptr) store_input(params_, place_, channel_of(tile), z);
    }
    if (params_.restores_norm) sums_.template add<Element>(z, selected, beyond());
  }

  /// H += x down^T of a tile of the step.
  __device__ __forceinline__ void multiply_low(int stage, int step_tile, const TokenPair& x) {
    if constexpr (T::kRankTiles > 0) {
      const std::uint32_t matrix = stager_.down(stage, step_tile);
#pragma unroll
      for (int i = 0; i < T::kRankTiles; ++i) {
        float d[4] = {low_[4 * i], low_[4 * i + 1], low_[4 * i + 2], low_[4 * i + 3]};
        multiply_tile<Element>(d, x, matrix, 8 * i + threadIdx.x % 32 / 4);
        for (int k = 0; k < 4; ++k) low_[4 * i + k] = d[k];
      }
    }
  }

  /// Writes s and H / s.
  __device__ __forceinline__ void finish() {
    finish_token(place_.upper, place_.has_upper, sums_.upper(beyond()), 0);
    finish_token(place_.upper + 8, place_.has_lower, sums_.lower(beyond()), 2);
  }

  /// `first`: where the token's pairs of columns lie in each four of low_.
  __device__ __forceinline__ void finish_token(int token, bool exists, const TokenSums& sums,
                                               int first) const {
    if (!exists) return;
    const float s = params_.restores_norm ? sums.scale() : 1.0f;
    if (blockIdx.y == 0 && threadIdx.x % 4 == 0) params_.scale[token] = s;
    auto* const row = static_cast<Bits*>(params_.low) + token * params_.low_stride;
#pragma unroll
    for (int i = 0; i < T::kRankTiles; ++i) {
      const int column = first_column<T>() + 8 * i + static_cast<int>(threadIdx.x) % 4 * 2;
      if (column >= params_.low_columns) break;
      *reinterpret_cast<std::uint32_t*>(row + column) =
          Element::from_float2({low_[4 * i + first] / s, low_[4 * i + first + 1] / s});
    }
  }

  const Params& params_;
  Stager<T> stager_;
  int steps_;
  PackedPlace packed_;
  Place place_;
  PairSums sums_;
  float low_[T::kRankTiles > 0 ? T::kRank / 2 : 1] = {};
};

template <typename T>
__global__ void __launch_bounds__(kThreads, T::kCtasPerSm)
    pack24_kernel(const __grid_constant__ Params params) {
  extern __shared__ __align__(128) char shared[];
  Packer<T>(params, shared).run();
}

}  // namespace rtlynx::pack::sm80
