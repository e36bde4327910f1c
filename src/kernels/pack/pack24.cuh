// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/device/packed_tile.h"
#include "kernels/device/shared.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/pack/producer.cuh"
#include "kernels/pack/token_scale.cuh"

/// The pack kernel. A warp has 16 tokens; lane l has tokens l / 4 and l / 4 + 8 and, of every 64
/// channels, the 16 from 16 (l % 4) on. So whole groups lie in one thread, a thread's 8 kept values
/// are one 16-byte chunk of the packed tile, its 8 nibbles are its own metadata word, and its
/// elements are fragments of A for products over permuted channels: instruction g of 4 takes
/// channels 16 t + 4 g .. + 3 of lanes t of each quad. Four warps make the 64 tokens of a tile; the
/// CTAs of a cluster share the channels.
namespace rtlynx::pack {

inline constexpr int kThreads = 128;
inline constexpr int kTokens = kPackedTileTokens;

/// kProducer: the producer, or kAnyProducer to look at run time. kRankTiles: columns of H by
/// eights; for more, further CTAs (blockIdx.y) select again, but store only their columns.
/// kTransformTiles: tiles of 64 channels that the transform mixes: 0, 1 (blocks up to 64) or 2.
template <typename ElementType, int kProducerOrAny, int kMaxRankTiles, int kTransformTiles>
struct Traits {
  using Element = ElementType;
  static constexpr int kProducer = kProducerOrAny;
  static constexpr int kRankTiles = kMaxRankTiles;
  static constexpr int kTransform = kTransformTiles;
  static constexpr int kStepTiles = kTransform == 2 ? 2 : 1;  // tiles of channels a step
  // Few steps in registers and many CTAs: measured faster than the other way round. What their
  // registers allow without spills.
  static constexpr bool kNorm = kProducer >= static_cast<int>(gpu::Producer::layer_norm);
  static constexpr int kCtasPerSm = kTransform > 0 || kRankTiles > 8  ? 2
                                    : kNorm                           ? 3
                                    : kRankTiles > 0 || kProducer > 0 ? 4
                                                                      : 5;

  // A stage: matrices of rows of 64 channels, first of the transform, then of `down`.
  static constexpr int kRowBytes = 128;
  static constexpr int kTransformBytes = kTransform * kTransform * 64 * kRowBytes;
  static constexpr int kDownBytes = kRankTiles * 8 * kRowBytes;
  static constexpr int kStageBytes = kTransformBytes + kStepTiles * kDownBytes;
  static constexpr int kStages = kTransform == 2 ? 3 : 4;  // what shared memory holds
  static constexpr bool kStaged = kStageBytes > 0;
  static constexpr int kRank = kRankTiles * 8;
  static constexpr int kSumBytes = kTokens * 16;
  static constexpr int kExchangeBytes = kSumBytes + kTokens * kRank * 4;
  // Four stages; or three stages and two copies of `down` for wgmma.
  static constexpr int kStagedBytes = kStages * kStageBytes + (kTransform == 0 ? kDownBytes : 0);
  static constexpr int kSharedBytes = kStagedBytes > kExchangeBytes ? kStagedBytes : kExchangeBytes;
};

inline constexpr int kAnyProducer = -1;

/// The part of the cluster's work that this CTA does.
struct Slice {
  int rank;  // in the cluster
  int ctas;
  int first_step;
  int end_step;
};

__device__ __forceinline__ Slice own_slice(int steps) {
#if __CUDA_ARCH__ >= 900
  const int rank = device::cluster_rank(), ctas = device::cluster_size();
#else
  const int rank = 0, ctas = 1;
#endif
  return {rank, ctas, steps * rank / ctas, steps * (rank + 1) / ctas};
}

__device__ __forceinline__ void sync_cluster(const Slice& slice) {
#if __CUDA_ARCH__ >= 900
  if (slice.ctas > 1) {
    device::cluster_sync();
    return;
  }
#endif
  __syncthreads();
}

/// The first column of H that this CTA computes; only the CTAs of column 0 store the rest.
template <typename T>
__device__ __forceinline__ int first_column() {
  return static_cast<int>(blockIdx.y) * T::kRank;
}

/// A float of shared memory of CTA `cta` of the cluster.
__device__ __forceinline__ float load_of(const Slice& slice, const float* own, int cta) {
#if __CUDA_ARCH__ >= 900
  if (slice.ctas > 1) return device::load_cluster_float(device::shared_address(own), cta);
#endif
  return *own;
}

/// Fills the stages with the transform and `down`, a step at a time.
template <typename T>
class Stager {
 public:
  __device__ Stager(const Params& params, std::uint32_t base) : params_(params), base_(base) {}

  __device__ __forceinline__ void load(int step, int stage) const {
    const std::uint32_t target = base_ + stage * T::kStageBytes;
    if constexpr (T::kTransform > 0) load_transform(step, target);
    if constexpr (T::kRankTiles > 0) {
#pragma unroll
      for (int tile = 0; tile < T::kStepTiles; ++tile) {
        load_down(step * T::kStepTiles + tile, target + T::kTransformBytes + tile * T::kDownBytes);
      }
    }
  }

  __device__ std::uint32_t transform(int stage, int output_tile, int input_tile) const {
    return base_ + stage * T::kStageBytes +
           (output_tile * T::kTransform + input_tile) * 64 * T::kRowBytes;
  }
  __device__ std::uint32_t down(int stage, int tile) const {
    return base_ + stage * T::kStageBytes + T::kTransformBytes + tile * T::kDownBytes;
  }

 private:
  using Bits = typename T::Element::Bits;

  /// Rows of odd index have their 16-byte chunks swapped in pairs: lanes of two rows then read
  /// different banks.
  static __device__ std::uint32_t chunk_offset(int row, int chunk) {
    return row * T::kRowBytes + (chunk ^ (row & 1)) * 16;
  }

  __device__ void load_down(int tile, std::uint32_t target) const {
    const auto* const down = static_cast<const Bits*>(params_.down);
#pragma unroll 4
    for (int i = threadIdx.x; i < T::kRank * 8; i += kThreads) {
      const int row = i / 8, chunk = i % 8, channel = tile * 64 + chunk * 8;
      const int column = first_column<T>() + row;  // of H
      const bool inside = column < params_.rank && channel < params_.channels;
      const std::int64_t element = static_cast<std::int64_t>(column) * params_.channels + channel;
      device::cp_async_16(target + chunk_offset(row, chunk), inside ? down + element : down,
                          inside);
    }
  }

  /// Blocks smaller than a tile become a tile with zeros beside the diagonal.
  __device__ void load_transform(int step, std::uint32_t target) const {
    const auto* const transform = static_cast<const Bits*>(params_.transform);
    const int block = params_.transform_block;
    for (int i = threadIdx.x; i < T::kTransformBytes / 16; i += kThreads) {
      const int row = i / 8 % 64, chunk = i % 8, matrix = i / 512;
      const int output = matrix / T::kTransform * 64 + row;  // in the step
      const int input = matrix % T::kTransform * 64 + chunk * 8;
      const int first = step * T::kStepTiles * 64;
      const bool inside = output / block == input / block && first + output < params_.channels;
      const std::int64_t element =
          static_cast<std::int64_t>(first + output) * block + input % block;
      device::cp_async_16(target + matrix * 64 * T::kRowBytes + chunk_offset(row, chunk),
                          inside ? transform + element : transform, inside);
    }
  }

  const Params& params_;
  std::uint32_t base_;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
inline constexpr bool kHasWgmma = true;
#else
inline constexpr bool kHasWgmma = false;
#endif

/// H by the four warps together, B from shared memory by hardware; else each warp for itself.
template <typename T>
inline constexpr bool kWgmmaDown = kHasWgmma && T::kRankTiles > 0 && T::kTransform == 0;

/// Brings `down` to shared memory for wgmma. A row's channels must be in the order in which the
/// threads hold X: instruction g of a step multiplies column pairs 8 g .. + 7 of the row, which are
/// pairs 0 (channels 16 t + 4 g, + 1) and 1 (+ 2, + 3) of lanes t, at t and 4 + t. Each thread
/// copies its chunks of 8 channels as they are, some steps ahead, and then spreads them.
template <typename T>
class DownRing {
 public:
  static constexpr int kRawStages = 3;
  static constexpr int kBuffers = 2;

  __device__ DownRing(const Params& params, std::uint32_t base) : params_(params), base_(base) {}

  /// Starts to copy this thread's chunks of `tile`.
  __device__ __forceinline__ void load(int tile, int stage) const {
    const auto* const down = static_cast<const std::uint16_t*>(params_.down);
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int column = first_column<T>() + row(i), channel = tile * 64 + chunk() * 8;
      const bool inside = column < params_.rank && channel < params_.channels;
      const std::int64_t element = static_cast<std::int64_t>(column) * params_.channels + channel;
      device::cp_async_16(raw(stage, i), inside ? down + element : down, inside);
    }
  }

  /// Spreads them; they have arrived, which only their own thread must know.
  __device__ __forceinline__ void spread(int stage, int buffer) const {
    const int t = chunk() / 2, half = chunk() % 2;  // pairs 0 and 1 of instructions 2 half, + 1
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const uint4 values = device::load_shared_vector(raw(stage, i));
      const std::uint32_t words[4] = {values.x, values.y, values.z, values.w};
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const int swizzled = (4 * half + word) ^ (row(i) % 8);
        device::store_shared(matrix(buffer) + row(i) * 128 + swizzled * 16 + t * 4, words[word]);
      }
    }
  }

  /// [kRank rows, 64 channels in the order above], 128-byte swizzle.
  __device__ std::uint32_t matrix(int buffer) const { return base_ + buffer * T::kDownBytes; }

 private:
  static constexpr int kChunks = T::kRank * 8 / kThreads;

  static __device__ int chunk() { return static_cast<int>(threadIdx.x) % 8; }
  static __device__ int row(int i) {
    return static_cast<int>(threadIdx.x) / 8 + i * (kThreads / 8);
  }
  __device__ std::uint32_t raw(int stage, int i) const {
    return matrix(kBuffers + stage) + (i * kThreads + static_cast<int>(threadIdx.x)) * 16;
  }

  const Params& params_;
  std::uint32_t base_;
};

/// d += x B^T for 8 rows of B [8, 64 channels] in shared memory; `row` is this lane's.
template <typename Element>
__device__ __forceinline__ void multiply_tile(float (&d)[4], const TokenPair& x,
                                              std::uint32_t matrix, int row) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 b =
        device::load_shared_vector(matrix + row * 128 + (((2 * t + half) ^ (row & 1)) * 16));
    const std::uint32_t pairs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int group = 2 * half + i;
      const std::uint32_t a[4] = {x.upper[2 * group], x.lower[2 * group], x.upper[2 * group + 1],
                                  x.lower[2 * group + 1]};
      const std::uint32_t fragment[2] = {pairs[2 * i], pairs[2 * i + 1]};
      device::mma_m16n8k16<Element>(d, a, fragment);
    }
  }
}

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
