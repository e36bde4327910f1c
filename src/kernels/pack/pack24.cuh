// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/packed_tile.h"
#include "kernels/device/wgmma.cuh"
#include "kernels/pack/producer.cuh"
#include "kernels/pack/staging.cuh"
#include "kernels/pack/token_scale.cuh"

/// The pack kernel. A warp has 16 tokens; lane l has tokens l / 4 and l / 4 + 8 and, of every 64
/// channels, the 16 from 16 (l % 4) on. So whole groups lie in one thread, a thread's 8 kept values
/// are one 16-byte chunk of the packed tile, its 8 nibbles are its own metadata word, and its
/// elements are fragments of A for products over permuted channels: instruction g of 4 takes
/// channels 16 t + 4 g .. + 3 of lanes t of each quad. Four warps make the 64 tokens of a tile; the
/// CTAs of a cluster share the channels.
namespace rtlynx::pack {

/// One CTA's pass over its tokens and channels.
template <typename T>
class Packer {
 public:
  using Element = typename T::Element;
  using Bits = typename Element::Bits;

  __device__ Packer(const Params& params, char* shared)
      : params_(params),
        shared_(shared),
        stager_(params, device::shared_address(shared)),
        down_(params, device::shared_address(shared)),
        slice_(own_slice((params.tiles + T::kStepTiles - 1) / T::kStepTiles)) {
    operand_ = params_.operand + static_cast<std::int64_t>(token_block()) * kPackedTileBytes;
    tile_stride_ = static_cast<std::int64_t>(gridDim.x / slice_.ctas) * kPackedTileBytes;
    const int token = token_block() * kTokens + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    place_ = {token, token < params.tokens, token + 8 < params.tokens};
  }

  __device__ __forceinline__ void run() {
    if (is_norm()) find_moments();
    TokenPair ahead[T::kStepTiles];
    load(slice_.first_step, ahead);
    if constexpr (kWgmmaDown<T>) {
      start_down();
    } else {
      stage_first();
    }
    for (int step = slice_.first_step; step < slice_.end_step; ++step) {
      TokenPair x[T::kStepTiles];
#pragma unroll
      for (int tile = 0; tile < T::kStepTiles; ++tile) x[tile] = ahead[tile];
      load(step + 1, ahead);
      process(step, x);
    }
    finish();
  }

 private:
  // blockIdx.x counts CTAs; those of a cluster are neighbours.
  __device__ int token_block() const { return static_cast<int>(blockIdx.x) / slice_.ctas; }
  __device__ int channel(int tile) const { return tile * 64 + threadIdx.x % 4 * 16; }

  __device__ gpu::Producer producer() const {
    if constexpr (T::kProducer == kAnyProducer) return params_.producer;
    return static_cast<gpu::Producer>(T::kProducer);
  }
  __device__ bool is_norm() const {
    return producer() == gpu::Producer::layer_norm || producer() == gpu::Producer::rms_norm;
  }

  __device__ __forceinline__ void load(int step, TokenPair (&x)[T::kStepTiles]) const {
    if (step >= slice_.end_step) return;
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      x[tile] = load_pair(params_.x, params_, place_, channel(step * T::kStepTiles + tile));
    }
  }

  __device__ __forceinline__ void stage_first() const {
    if constexpr (T::kStaged) {
#pragma unroll
      for (int i = 0; i < T::kStages - 1; ++i) {
        if (slice_.first_step + i < slice_.end_step) stager_.load(slice_.first_step + i, i);
        device::cp_async_commit();
      }
    }
  }

  /// Waits for this step's stage and starts to fill the one that the step before has left.
  __device__ __forceinline__ int next_stage(int step) const {
    const int index = step - slice_.first_step;
    if constexpr (T::kStaged) {
      device::cp_async_wait<T::kStages - 2>();
      __syncthreads();
      if (step + T::kStages - 1 < slice_.end_step) {
        stager_.load(step + T::kStages - 1, (index + T::kStages - 1) % T::kStages);
      }
      device::cp_async_commit();
    }
    return index % T::kStages;
  }

  __device__ __forceinline__ void load_down(int index) const {
    const int step = slice_.first_step + index;
    if (step < slice_.end_step) down_.load(step, index % DownRing<T>::kRawStages);
    device::cp_async_commit();
  }

  /// Puts step `index` of the slice in place, and asks for the one that can take its raw stage.
  __device__ __forceinline__ void place_down(int index) const {
    constexpr int kRawStages = DownRing<T>::kRawStages;
    device::cp_async_wait<kRawStages - 1>();
    down_.spread(index % kRawStages, index % DownRing<T>::kBuffers);
    load_down(index + kRawStages);
  }

  __device__ __forceinline__ void start_down() const {
#pragma unroll
    for (int i = 0; i < DownRing<T>::kRawStages; ++i) load_down(i);
    place_down(0);
    device::fence_async_proxy();
    __syncthreads();
  }

  /// H += z down^T of one step, behind the selection; the next step's `down` is put in place
  /// meanwhile.
  __device__ __forceinline__ void begin_down(int step, const TokenPair& z) {
    const int index = step - slice_.first_step;
    const std::uint32_t matrix = down_.matrix(index % DownRing<T>::kBuffers);
    device::wgmma_fence();
#pragma unroll
    for (int g = 0; g < 4; ++g) {
      const std::uint32_t a[4] = {z.upper[2 * g], z.lower[2 * g], z.upper[2 * g + 1],
                                  z.lower[2 * g + 1]};
      const auto b = device::matrix_descriptor<device::Swizzle::b128>(matrix + 32 * g);
      device::WgmmaRegisters<Element, T::kRank>::dense(low_, a, b);
    }
    device::wgmma_commit();
    if (step + 1 < slice_.end_step) place_down(index + 1);
  }

  __device__ __forceinline__ void end_down() {
    device::wgmma_wait<0>();
    device::fence_async_proxy();
    __syncthreads();
  }

  __device__ __forceinline__ void process(int step, TokenPair (&x)[T::kStepTiles]) {
    const int stage = kWgmmaDown<T> ? 0 : next_stage(step);
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      produce<Element>(producer(), params_, place_, moments_, channel(step * T::kStepTiles + tile),
                       x[tile]);
    }
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      const int at = step * T::kStepTiles + tile;
      if (at >= params_.tiles) break;
      if constexpr (T::kTransform > 0) {
        process_tile(at, stage, tile, transform(stage, tile, x));
      } else {
        process_tile(at, stage, tile, x[tile]);
      }
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

  __device__ __forceinline__ void process_tile(int tile, int stage, int step_tile,
                                               const TokenPair& z) {
    if constexpr (kWgmmaDown<T>) begin_down(tile, z);
    const Selected selected = select<Element>(z);
    if (blockIdx.y == 0) {
      store(tile, selected);
      if (params_.selected_from != nullptr) store_input(tile, z);
    }
    if (params_.scale != nullptr) add_sums(z, selected);
    if constexpr (kWgmmaDown<T>) {
      end_down();
    } else if constexpr (T::kRankTiles > 0) {
      const std::uint32_t matrix = stager_.down(stage, step_tile);
#pragma unroll
      for (int i = 0; i < T::kRankTiles; ++i) {
        float d[4] = {low_[4 * i], low_[4 * i + 1], low_[4 * i + 2], low_[4 * i + 3]};
        multiply_tile<Element>(d, z, matrix, 8 * i + threadIdx.x % 32 / 4);
        for (int k = 0; k < 4; ++k) low_[4 * i + k] = d[k];
      }
    }
  }

  __device__ __forceinline__ void add_sums(const TokenPair& z, const Selected& selected) {
    const std::uint32_t upper = selected.largest & 0xffffu, lower = selected.largest >> 16;
    const bool middle = upper_.in_middle() && lower_.in_middle() &&
                        TokenSums::in_middle<Element>(upper) &&
                        TokenSums::in_middle<Element>(lower);
    if (middle) {
      upper_.template add_middle<Element>(z.upper, selected.upper);
      lower_.template add_middle<Element>(z.lower, selected.lower);
    } else {
      upper_.template add<Element>(z.upper, selected.upper, upper);
      lower_.template add<Element>(z.lower, selected.lower, lower);
    }
  }

  __device__ __forceinline__ void store(int tile, const Selected& selected) const {
    char* const packed = operand_ + tile * tile_stride_;
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    const int chunk = threadIdx.x % 4;
    const auto& u = selected.upper;
    const auto& l = selected.lower;
    *reinterpret_cast<uint4*>(packed + packed_chunk_offset(row, chunk)) =
        make_uint4(u[0], u[1], u[2], u[3]);
    *reinterpret_cast<uint4*>(packed + packed_chunk_offset(row + 8, chunk)) =
        make_uint4(l[0], l[1], l[2], l[3]);
    reinterpret_cast<std::uint32_t*>(packed + kPackedTileValueBytes)[threadIdx.x] =
        selected.metadata;
  }

  __device__ void store_input(int tile, const TokenPair& z) const {
    if (channel(tile) >= params_.channels) return;
    auto* const row = static_cast<Bits*>(params_.selected_from) +
                      static_cast<std::int64_t>(place_.upper) * params_.channels + channel(tile);
    const auto write = [](Bits* target, const std::uint32_t(&pairs)[8]) {
      for (int i = 0; i < 8; ++i) reinterpret_cast<std::uint32_t*>(target)[i] = pairs[i];
    };
    if (place_.has_upper) write(row, z.upper);
    if (place_.has_lower) write(row + 8 * params_.channels, z.lower);
  }

  // Sums over the quad's lanes, by shuffles in a fixed order.
  static __device__ __forceinline__ float quad_sum(float value) {
    value += __shfl_xor_sync(0xffffffffu, value, 1);
    return value + __shfl_xor_sync(0xffffffffu, value, 2);
  }

  struct ShiftedSums {
    float sum = 0.0f, squares = 0.0f;
    __device__ void add(const std::uint32_t (&pairs)[8], float pivot) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float2 v = Element::to_float2(pairs[i]);
        const float a = v.x - pivot, b = v.y - pivot;
        sum += a + b;
        squares = fmaf(a, a, fmaf(b, b, squares));
      }
    }
  };

  /// Mean and variance of each token over the cluster, from sums shifted by the token's first
  /// element: no cancellation when the mean is large. RMSNorm takes 0 for the mean.
  __device__ void find_moments() {
    const bool centred = producer() == gpu::Producer::layer_norm;
    const auto* const x = static_cast<const Bits*>(params_.x);
    const auto pivot_of = [&](int token, bool exists) {
      return centred && exists ? Element::to_float(x[token * params_.row_stride]) : 0.0f;
    };
    const float upper_pivot = pivot_of(place_.upper, place_.has_upper);
    const float lower_pivot = pivot_of(place_.upper + 8, place_.has_lower);
    ShiftedSums upper, lower;
    for (int tile = slice_.first_step * T::kStepTiles;
         tile < min(slice_.end_step * T::kStepTiles, params_.tiles); ++tile) {
      if (channel(tile) >= params_.channels) break;
      const TokenPair pair = load_pair(params_.x, params_, place_, channel(tile));
      upper.add(pair.upper, upper_pivot);
      lower.add(pair.lower, lower_pivot);
    }
    auto* const exchange = reinterpret_cast<float4*>(shared_);
    const float4 own_upper{quad_sum(upper.sum), quad_sum(upper.squares), 0, 0};
    const float4 own_lower{quad_sum(lower.sum), quad_sum(lower.squares), 0, 0};
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    if (threadIdx.x % 4 == 0) {
      exchange[row] = own_upper;
      exchange[row + 8] = own_lower;
    }
    sync_cluster(slice_);
    const auto finish_token = [&](int token_row, float pivot, float& mean, float& rate) {
      float sum = 0.0f, squares = 0.0f;
      for (int cta = 0; cta < slice_.ctas; ++cta) {
        sum += load_of(slice_, &exchange[token_row].x, cta);
        squares += load_of(slice_, &exchange[token_row].y, cta);
      }
      const float count = static_cast<float>(params_.channels);
      const float shift = centred ? sum / count : 0.0f;
      mean = pivot + shift;
      rate = rsqrtf(fmaxf(squares / count - shift * shift, 0.0f) + params_.eps);
    };
    finish_token(row, upper_pivot, moments_.upper_mean, moments_.upper_rate);
    finish_token(row + 8, lower_pivot, moments_.lower_mean, moments_.lower_rate);
    sync_cluster(slice_);  // before the memory serves the stages
  }

  /// Adds up the cluster's parts, each CTA for its share of the tokens, and writes s and H / s.
  __device__ __forceinline__ void finish() {
    if (params_.scale == nullptr && T::kRankTiles == 0) return;
    upper_.add_quad();
    lower_.add_quad();
    if constexpr (T::kStaged) {
      device::cp_async_wait<0>();
      __syncthreads();  // all have read the stages
    }
    auto* const sums = reinterpret_cast<float4*>(shared_);               // [64]
    auto* const low = reinterpret_cast<float*>(shared_ + T::kSumBytes);  // [64, kRank]
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    if (threadIdx.x % 4 == 0) {
      sums[row] = upper_.to_float4();
      sums[row + 8] = lower_.to_float4();
    }
#pragma unroll
    for (int i = 0; i < T::kRankTiles; ++i) {
      float* const target = low + row * T::kRank + 8 * i + threadIdx.x % 4 * 2;
      *reinterpret_cast<float2*>(target) = {low_[4 * i], low_[4 * i + 1]};
      *reinterpret_cast<float2*>(target + 8 * T::kRank) = {low_[4 * i + 2], low_[4 * i + 3]};
    }
    sync_cluster(slice_);
    const int rows = kTokens / slice_.ctas;
    for (int i = threadIdx.x / 32; i < rows; i += kThreads / 32) {
      finish_token(slice_.rank * rows + i, sums, low);
    }
    if (slice_.ctas > 1) sync_cluster(slice_);  // others may still read this CTA's parts
  }

  /// A warp for a token.
  __device__ void finish_token(int row, const float4* sums, const float* low) const {
    const int token = token_block() * kTokens + row;
    if (token >= params_.tokens) return;
    TokenSums total;
    for (int cta = 0; cta < slice_.ctas; ++cta) {
      const TokenSums part =
          TokenSums::from(load_of(slice_, &sums[row].x, cta), load_of(slice_, &sums[row].y, cta),
                          load_of(slice_, &sums[row].z, cta));
      total.add(part);
    }
    const float s = params_.scale == nullptr ? 1.0f : total.scale();
    const int lane = threadIdx.x % 32;
    if (params_.scale != nullptr && blockIdx.y == 0 && lane == 0) params_.scale[token] = s;
    const int columns = min(T::kRank, params_.rank - first_column<T>());
    for (int r = lane; r < columns; r += 32) {
      float h = 0.0f;
      for (int cta = 0; cta < slice_.ctas; ++cta) {
        h += load_of(slice_, &low[row * T::kRank + r], cta);
      }
      const std::int64_t at =
          static_cast<std::int64_t>(token) * params_.rank + first_column<T>() + r;
      static_cast<Bits*>(params_.low)[at] = Element::from_float(h / s);
    }
  }

  const Params& params_;
  char* shared_;
  Stager<T> stager_;
  DownRing<T> down_;
  Slice slice_;
  char* operand_;             // this CTA's tokens' first tile
  std::int64_t tile_stride_;  // to the next channels
  Place place_;
  Moments moments_;
  TokenSums upper_, lower_;
  float low_[T::kRankTiles > 0 ? T::kRank / 2 : 1] = {};
};

template <typename T>
__global__ void __launch_bounds__(kThreads, T::kCtasPerSm)
    pack24_kernel(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) char shared[];
#if __CUDA_ARCH__ >= 900
  device::let_next_grid_start();
#endif
  Packer<T>(params, shared).run();
}

}  // namespace rtlynx::pack
