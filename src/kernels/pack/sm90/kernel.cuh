// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/device/shared.cuh"
#include "kernels/pack/sm90/cluster_sums.cuh"
#include "kernels/pack/sm90/parts.cuh"
#include "kernels/pack/sm90/ring.cuh"

/// The pack kernel for Hopper. A CTA takes a run of steps (runs.h), eight warps the 128 tokens of a
/// block. TMA is some stages ahead; one thread asks for them. The products (transform, low rank)
/// read what TMA brought, or what a producer wrote over it, from shared memory.
namespace rtlynx::pack::sm90 {

/// A thread's part of its CTA's work.
template <typename T>
class Packer {
 public:
  using Element = typename T::Element;

  __device__ Packer(const Params& params, const Sharing& sharing, const Span<T>& span,
                    const Loader<T>& loader, std::uint32_t shared)
      : params_(params), sharing_(sharing), span_(span), loader_(loader), ring_{shared} {
    const int lane = threadIdx.x % 32, row = row_of_thread();
    warpgroup_ = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
    // Chunks 2 t and 2 t + 1 of the row, swizzled.
    own_chunk_ = block(0) + row * kRowBytes + (lane % 4 * 2 ^ lane / 4) * 16;
  }

  __device__ __forceinline__ void run() {
    if (span_.norm()) find_moments();
    int at = span_.begin;
#pragma unroll 1
    do {
      const Piece piece = sharing_.runs.piece(at, span_.end);
      begin(piece);
#pragma unroll 1
      for (int step = piece.first_step; step < piece.end_step; ++step) {
        device::mbarrier_wait(ring_.full(), ring_.phase);
        process(step);
        leave();
      }
      const int block = first_token_ / kTileTokens;
      at = block * sharing_.runs.steps() + piece.end_step;
      if (params_.scale != nullptr || T::kRank > 0) finish(block);
    } while (T::kRuns && at < span_.end);  // a cluster has one block
  }

 private:
  /// The upper token.
  __device__ int token() const { return first_token_ + block_row_of_thread(); }
  __device__ Place place() const {
    return {token(), token() < params_.tokens, token() + 8 < params_.tokens};
  }

  __device__ __forceinline__ void begin(const Piece& piece) {
    first_token_ = piece.block * kTileTokens;
    stores_ = blockIdx.y == 0 && first_token_ + warpgroup_ * kPackedTileTokens < params_.tokens;
    const std::int64_t tile = piece.first_step * T::kStepTiles;
    packed_ = PackedPlace(params_.operand + tile * params_.tile_stride +
                          std::int64_t{piece.block * kWarpgroups + warpgroup_} * kPackedTileBytes);
    beyond()[0] = beyond()[1] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (float& sum : low_) sum = 0.0f;
    sums_ = {};
  }

  static __device__ PairSums::Beyond& beyond() {
    extern __shared__ __align__(1024) char shared[];
    return reinterpret_cast<PairSums::Beyond*>(shared + T::kBeyondOffset)[threadIdx.x];
  }

  /// This warpgroup's rows of a tile.
  __device__ std::uint32_t block(std::uint32_t tile) const {
    return tile + warpgroup_ * kPackedTileTokens * kRowBytes;
  }
  __device__ void sync_warpgroup() const { device::named_barrier_sync(1 + warpgroup_, 128); }

  /// Goes on to the next stage.
  __device__ __forceinline__ void leave() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) device::mbarrier_arrive(ring_.empty());
    ring_.advance();
    if (threadIdx.x == 0) loader_.load_next();
    __syncwarp();
  }

  __device__ __forceinline__ TokenPair read(std::uint32_t tile) const {
    TokenPair pair;
    const auto read_token = [&](std::uint32_t address, std::uint32_t(&pairs)[8]) {
      const uint4 low = device::load_shared_vector(address);
      const uint4 high = device::load_shared_vector(address ^ 16);
      pairs[0] = low.x, pairs[1] = low.y, pairs[2] = low.z, pairs[3] = low.w;
      pairs[4] = high.x, pairs[5] = high.y, pairs[6] = high.z, pairs[7] = high.w;
    };
    read_token(tile + own_chunk_, pair.upper);
    read_token(tile + own_chunk_ + 8 * kRowBytes, pair.lower);
    return pair;
  }

  /// Puts z in the place of x, where products find it.
  __device__ __forceinline__ void write(std::uint32_t tile, const TokenPair& z) const {
    const auto write_token = [&](std::uint32_t address, const std::uint32_t(&pairs)[8]) {
      device::store_shared_vector(address, make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
      device::store_shared_vector(address ^ 16, make_uint4(pairs[4], pairs[5], pairs[6], pairs[7]));
    };
    write_token(tile + own_chunk_, z.upper);
    write_token(tile + own_chunk_ + 8 * kRowBytes, z.lower);
  }

  /// What was written is seen by the products of the whole warpgroup.
  __device__ __forceinline__ void publish() const {
    device::fence_async_proxy();
    sync_warpgroup();
  }

  __device__ __forceinline__ void process(int step) {
    TokenPair z[T::kStepTiles];
    if constexpr (T::kTransform > 0) {
      if (T::kProduces && span_.producer != gpu::Producer::none) {
        produce_step(step, z);
        write_step(z);
      }
      transform(z);
      if constexpr (T::kRank > 0) {
        sync_warpgroup();  // all products have read x
        write_step(z);
      }
    } else {
      produce_step(step, z);
      if constexpr (T::kProduces && T::kRank > 0) write_step(z);
    }
    begin_low();
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      keep(step * T::kStepTiles + tile, z[tile]);
    }
    if constexpr (T::kRank > 0) device::wgmma_wait<0>();
  }

  __device__ __forceinline__ void write_step(const TokenPair (&z)[T::kStepTiles]) const {
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) write(ring_.x(tile), z[tile]);
    publish();
  }

  __device__ __forceinline__ void produce_step(int step, TokenPair (&z)[T::kStepTiles]) const {
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      z[tile] = read(ring_.x(tile));
      if constexpr (T::kSwiglu) {
        apply_swiglu<Element>(z[tile], read(ring_.up(tile)));
      } else if constexpr (T::kProduces) {
        produce(channel_of(step * T::kStepTiles + tile), tile, z[tile]);
      }
    }
  }

  __device__ __forceinline__ void produce(int channel, int tile, TokenPair& x) const {
    if (channel >= params_.channels) return;
    if (span_.producer == gpu::Producer::gelu) {
      apply_gelu<Element>(x);
    } else if (span_.norm()) {
      if (span_.staged_modulation) {
        apply_staged_norm(tile, x);
      } else {
        apply_norm_in_place(tile, channel);
        x = read(ring_.x(tile));
      }
    }
  }

  /// Either norm, with the modulation that TMA brought.
  __device__ __forceinline__ void apply_staged_norm(int tile, TokenPair& x) const {
    const std::uint32_t own = threadIdx.x % 4 * 64;
    const Moments moments = this->moments();
    const auto four = [](std::uint32_t address) {
      const uint4 bits = device::load_shared_vector(address);
      return float4{__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z),
                    __uint_as_float(bits.w)};
    };
#pragma unroll
    for (int group = 0; group < 4; ++group) {
      float4 m{1.0f, 1.0f, 1.0f, 1.0f}, b{0.0f, 0.0f, 0.0f, 0.0f};
      if (params_.multiplier != nullptr) m = four(ring_.multiplier(tile) + own + 16 * group);
      if (params_.shift != nullptr) b = four(ring_.shift(tile) + own + 16 * group);
      const auto apply = [&](std::uint32_t& pair, float mean, float rate, float2 scale,
                             float2 offset) {
        const float2 v = Element::to_float2(pair);
        pair = Element::from_float2({fmaf((v.x - mean) * rate, scale.x, offset.x),
                                     fmaf((v.y - mean) * rate, scale.y, offset.y)});
      };
      const float2 m0{m.x, m.y}, m1{m.z, m.w}, b0{b.x, b.y}, b1{b.z, b.w};
      apply(x.upper[2 * group], moments.upper_mean, moments.upper_rate, m0, b0);
      apply(x.upper[2 * group + 1], moments.upper_mean, moments.upper_rate, m1, b1);
      apply(x.lower[2 * group], moments.lower_mean, moments.lower_rate, m0, b0);
      apply(x.lower[2 * group + 1], moments.lower_mean, moments.lower_rate, m1, b1);
    }
    clear_missing(x);
  }

  /// Rows beyond the last token stay zeros, whatever the shift.
  __device__ __forceinline__ void clear_missing(TokenPair& x) const {
    if (token() + 8 < params_.tokens) return;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (token() >= params_.tokens) x.upper[i] = 0;
      x.lower[i] = 0;
    }
  }

  /// The same for tokens of several images, each with its row in device memory: seldom, so it saves
  /// registers, not time. It leaves z in the place of x.
  __device__ void apply_norm_in_place(int tile, int channel) const {
    const Moments moments = this->moments();
    const auto apply = [&](int token, std::uint32_t chunk, float mean, float rate) {
      if (token >= params_.tokens) return;
#pragma unroll 1
      for (int group = 0; group < 4; ++group) {
        const std::uint32_t address = (chunk ^ group / 2 * 16) + group % 2 * 8;
        const float2 bits = device::load_shared_pair(address);
        std::uint32_t pairs[2] = {__float_as_uint(bits.x), __float_as_uint(bits.y)};
        normalize<Element>(params_, token, channel + 4 * group, mean, rate, pairs);
        device::store_shared(address, float2{__uint_as_float(pairs[0]), __uint_as_float(pairs[1])});
      }
    };
    const std::uint32_t chunk = ring_.x(tile) + own_chunk_;
    apply(token(), chunk, moments.upper_mean, moments.upper_rate);
    apply(token() + 8, chunk + 8 * kRowBytes, moments.lower_mean, moments.lower_rate);
  }

  /// z = x A of one step, rounded. The rows of the transform's matrices are in the order that
  /// leaves 16 neighbouring channels of z in a thread (transform_box() in launch.cuh).
  __device__ __forceinline__ void transform(TokenPair (&z)[T::kStepTiles]) const {
    float d[T::kTransform][kPackedTileChannels / 2];
    device::wgmma_fence();
#pragma unroll
    for (int output = 0; output < T::kTransform; ++output) {
#pragma unroll
      for (int input = 0; input < T::kTransform; ++input) {
        multiply<kPackedTileChannels>(d[output], ring_.x(input), ring_.transform(output, input),
                                      input > 0);
      }
    }
    device::wgmma_commit();
    device::wgmma_wait<0>();
#pragma unroll
    for (int output = 0; output < T::kTransform; ++output) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float* const four = d[output] + 4 * j;
        z[output].upper[j] = Element::from_float2({four[0], four[1]});
        z[output].lower[j] = Element::from_float2({four[2], four[3]});
      }
    }
  }

  /// H += z down^T, behind the selection.
  __device__ __forceinline__ void begin_low() {
    if constexpr (T::kRank > 0) {
      device::wgmma_fence();
#pragma unroll
      for (int tile = 0; tile < T::kStepTiles; ++tile) {
        multiply<T::kRank>(low_, ring_.x(tile), ring_.down(tile), true);
      }
      device::wgmma_commit();
    }
  }

  /// d (+)= this warpgroup's rows of `tile` [64, 64] times matrix [kN, 64] transposed.
  template <int kN>
  __device__ __forceinline__ void multiply(float (&d)[kN / 2], std::uint32_t tile,
                                           std::uint32_t matrix, bool accumulate) const {
    const auto a = device::matrix_descriptor<device::Swizzle::b128>(block(tile));
    const auto b = device::matrix_descriptor<device::Swizzle::b128>(matrix);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      device::Wgmma<Element, kN>::dense(d, device::advance(a, 32 * k), device::advance(b, 32 * k),
                                        accumulate || k > 0);
    }
  }

  __device__ __forceinline__ void keep(int tile, const TokenPair& z) {
    const Selected selected = select<Element>(z);
    if (stores_) {
      packed_.store(selected);
      if (params_.selected_from != nullptr) store_input(params_, place(), channel_of(tile), z);
    }
    packed_.advance(params_.tile_stride);
    if (params_.scale != nullptr) sums_.template add<Element>(z, selected, beyond());
  }

  /// Mean and variance of each token over the cluster.
  __device__ void find_moments() {
    const bool centred = span_.producer == gpu::Producer::layer_norm;
    const Piece piece = sharing_.runs.piece(span_.begin, span_.end);
    first_token_ = piece.block * kTileTokens;
    auto sums = PairMoments::begin<Element>(params_, place(), centred);
    const Ring<T> start = ring_;
#pragma unroll 1
    for (int step = piece.first_step; step < piece.end_step; ++step) {
      device::mbarrier_wait(ring_.full(), ring_.phase);
#pragma unroll
      for (int tile = 0; tile < T::kStepTiles; ++tile) {
        if (channel_of(step * T::kStepTiles + tile) >= params_.channels) continue;
        const TokenPair pair = read(ring_.x(tile));
        sums.upper.template add<Element>(pair.upper);
        sums.lower.template add<Element>(pair.lower);
      }
      if (span_.stays()) {
        ring_.advance();
      } else {
        leave();
      }
    }
    if (span_.stays()) ring_ = start;
    const std::uint32_t exchange = ring_.base + T::kMomentOffset + block_row_of_thread() * 8;
    const auto offer = [&](const ShiftedSums& token, std::uint32_t address) {
      const float sum = quad_sum(token.sum), squares = quad_sum(token.squares);
      if (threadIdx.x % 4 == 0) device::store_shared(address, float2{sum, squares});
    };
    offer(sums.upper, exchange);
    offer(sums.lower, exchange + 8 * 8);
    device::cluster_sync();
    const auto finish_token = [&](ShiftedSums& token, std::uint32_t offered,
                                  std::uint32_t own_moments) {
      token.sum = token.squares = 0.0f;
      for (int cta = 0; cta < device::cluster_size(); ++cta) {
        float2 part;
        device::load_cluster(offered, cta, part);
        token.sum += part.x;
        token.squares += part.y;
      }
      float2 moments;
      token.finish(params_.channels, centred, params_.eps, moments.x, moments.y);
      device::store_shared(own_moments, moments);
    };
    finish_token(sums.upper, exchange, moments_address());
    finish_token(sums.lower, exchange + 8 * 8, moments_address() + 8 * 8);
    __syncwarp();
  }

  /// Mean and rate of the upper token: in shared memory, they cost no registers.
  __device__ std::uint32_t moments_address() const {
    int warpgroup = warpgroup_;
    asm volatile("" : "+r"(warpgroup));  // computed again where it is needed: registers are scarce
    const int row = warpgroup * kPackedTileTokens + row_of_thread();
    return ring_.base + T::kMomentOffset + (kTileTokens + row) * 8;
  }
  __device__ __forceinline__ Moments moments() const {
    const float2 upper = device::load_shared_pair(moments_address());
    const float2 lower = device::load_shared_pair(moments_address() + 8 * 8);
    return {upper.x, upper.y, lower.x, lower.y};
  }

  __device__ __forceinline__ void finish(int block) {
    const TokenSums upper = sums_.upper(beyond()), lower = sums_.lower(beyond());
    if constexpr (T::kRuns) {
      Parts<T>(params_, sharing_, block).finish(upper, lower, low_);
    } else {
      ClusterSums<T>(params_, block, ring_.base).finish(upper, lower, low_);
    }
  }

  const Params& params_;
  const Sharing& sharing_;
  const Span<T>& span_;
  const Loader<T>& loader_;
  Ring<T> ring_;
  int warpgroup_;
  int first_token_;
  std::uint32_t own_chunk_;  // from a tile's start
  bool stores_;              // the warpgroup has tokens, and no other CTA stores the same
  PackedPlace packed_;
  PairSums sums_;
  float low_[T::kLowRegisters];
};

template <typename T>
__global__ void __launch_bounds__(kThreads, T::kCtasPerSm)
    pack24_kernel(const __grid_constant__ Params params, const __grid_constant__ Sharing sharing,
                  const __grid_constant__ TensorMaps maps) {
  extern __shared__ __align__(1024) char memory[];
  const std::uint32_t shared = device::shared_address(memory);
  const Span<T> span(params, sharing.runs);
  // With runs in shared memory: there registers are scarce.
  Cursor<T> own{};
  auto& cursor = T::kRuns ? *reinterpret_cast<Cursor<T>*>(memory + T::kCursorOffset) : own;
  static_assert(sizeof(cursor) <= T::kCursorBytes);
  const Loader<T> loader(params, sharing.runs, maps, span, cursor);
  device::let_next_grid_start();
  if (threadIdx.x == 0) loader.start(shared);
  __syncthreads();
  Packer<T>(params, sharing, span, loader, shared).run();
  if constexpr (!T::kRuns) {
    // Others may still read this CTA's sums.
    device::cluster_arrive_relaxed();
    device::cluster_wait();
  }
}

}  // namespace rtlynx::pack::sm90
