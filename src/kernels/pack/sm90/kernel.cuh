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
      finish(block);
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
    if constexpr (T::kNorm) shares_modulation_ = share_modulation(params_, first_token_);
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
    if constexpr (T::kTransform == 0 || T::kProduces) {
      produce_step(step, z);
      if constexpr (T::kProduces && (T::kRank > 0 || T::kTransform > 0)) write_step(z);
    }
    if constexpr (T::kTransform > 0) transform(z);
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
    if constexpr (T::kProducer == Producer::gelu) {
      apply_gelu<Element>(x);
    } else if (shares_modulation_) {
      apply_staged_norm(tile, x);
    } else {
      apply_norm_in_place(tile, channel);
      x = read(ring_.x(tile));
    }
  }

  /// Mean and rate of a token; one that does not exist takes any.
  __device__ float2 moments(int token) const {
    return __ldg(params_.moments + min(token, params_.tokens - 1));
  }

  /// The norm, with the modulation that TMA brought.
  __device__ __forceinline__ void apply_staged_norm(int tile, TokenPair& x) const {
    const float2 upper = moments(token()), lower = moments(token() + 8);
    const std::uint32_t own = threadIdx.x % 4 * 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto eight = [&](int which) {
        const uint4 bits =
            device::load_shared_vector(ring_.modulation(tile, which) + own + 16 * half);
        return Eight{{bits.x, bits.y, bits.z, bits.w}};
      };
      // What is not there holds any bits, and is not used.
      const Eight weight = eight(0), scale = eight(1), shift = eight(2);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const PairModulation modulation =
            modulation_of<Element>(params_, weight.pairs[i], scale.pairs[i], shift.pairs[i]);
        const int pair = 4 * half + i;
        x.upper[pair] = normalize<Element>(x.upper[pair], upper, modulation);
        x.lower[pair] = normalize<Element>(x.lower[pair], lower, modulation);
      }
    }
    clear_missing(x);
  }
  struct Eight {
    std::uint32_t pairs[4];
  };

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
    const auto apply = [&](int token, std::uint32_t chunk) {
      if (token >= params_.tokens) return;
#pragma unroll 1
      for (int group = 0; group < 4; ++group) {
        const std::uint32_t address = (chunk ^ group / 2 * 16) + group % 2 * 8;
        const float2 bits = device::load_shared_pair(address);
        std::uint32_t pairs[2] = {__float_as_uint(bits.x), __float_as_uint(bits.y)};
        normalize_token<Element>(params_, token, channel + 4 * group, pairs);
        device::store_shared(address, float2{__uint_as_float(pairs[0]), __uint_as_float(pairs[1])});
      }
    };
    const std::uint32_t chunk = ring_.x(tile) + own_chunk_;
    apply(token(), chunk);
    apply(token() + 8, chunk + 8 * kRowBytes);
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

  /// H += x down^T, x behind its producer, while the selection runs.
  __device__ __forceinline__ void begin_low() {
    if constexpr (T::kRank > 0) {
      device::wgmma_fence();
#pragma unroll
      for (int tile = 0; tile < T::kStepTiles; ++tile) {
        multiply_low(tile);
      }
      device::wgmma_commit();
    }
  }

  /// In parts of 128 columns, and one of 64.
  __device__ __forceinline__ void multiply_low(int tile) {
    constexpr int kWhole = T::kRank / 128;
#pragma unroll
    for (int part = 0; part < kWhole; ++part) {
      float(&d)[64] = *reinterpret_cast<float(*)[64]>(low_ + 64 * part);
      multiply<128>(d, ring_.x(tile), ring_.down(tile) + part * 128 * kRowBytes, true);
    }
    if constexpr (T::kRank % 128 != 0) {
      float(&d)[32] = *reinterpret_cast<float(*)[32]>(low_ + 64 * kWhole);
      multiply<64>(d, ring_.x(tile), ring_.down(tile) + kWhole * 128 * kRowBytes, true);
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
      if (params_.code_factor == nullptr) {
        packed_.store(selected);
      } else {
        store_codes<Element>(packed_tile(tile / 2), tile % 2, selected,
                             {code_factor(params_, token()), code_factor(params_, token() + 8)});
      }
      if (params_.z != nullptr) store_input(params_, place(), channel_of(tile), z);
    }
    packed_.advance(params_.tile_stride);
    if (params_.restores_norm) sums_.template add<Element>(z, selected, beyond());
  }

  /// This warpgroup's packed tile of e4m3, of 128 channels.
  __device__ __forceinline__ char* packed_tile(int across) const {
    const int block = first_token_ / kPackedTileTokens + warpgroup_;
    return params_.operand + across * params_.tile_stride +
           std::int64_t{block} * kPackedTileBytesE4m3;
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
  bool shares_modulation_ = false;
  bool stores_;  // the warpgroup has tokens, and no other CTA stores the same
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
  const Span<T> span(sharing.runs);
  Cursor<T> own{};
  auto& cursor = T::kSharedCursor ? *reinterpret_cast<Cursor<T>*>(memory + T::kCursorOffset) : own;
  static_assert(sizeof(cursor) <= T::kCursorBytes);
  const Loader<T> loader(params, sharing.runs, maps, span, cursor);
  device::let_next_grid_start();
  device::wait_for_previous_grid();  // it may write what is read here, or read what is written
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
