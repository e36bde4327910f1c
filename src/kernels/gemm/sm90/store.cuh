// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/device/shared.cuh"
#include "kernels/device/tma.cuh"
#include "kernels/gemm/sm90/mainloop.cuh"

/// What happens to a warpgroup's accumulators: parts of a tile meet, and Y is written.
namespace rtlynx::sm90 {

/// Named barriers: one for each warpgroup, one for both.
__device__ __forceinline__ int warpgroup_barrier(int warpgroup) { return 1 + warpgroup; }
inline constexpr int kTileBarrier = 3;

/// Where a warpgroup leaves its part of a tile: [registers / 4][128 threads] float4.
template <typename T>
__device__ float4* partial_of(const Params& params, int cta, int warpgroup) {
  constexpr int kVectors = T::kAccumulators * 128 / 4;
  return reinterpret_cast<float4*>(params.partials) +
         (static_cast<std::int64_t>(cta) * T::kWarpgroups + warpgroup) * kVectors +
         threadIdx.x % 128;
}

__device__ __forceinline__ std::uint32_t* flag_of(const Params& params, int cta, int warpgroup) {
  return params.flags + cta * gpu::Gemm24Workspace::kFlagsPerCta + warpgroup;
}

template <typename T>
__device__ void write_partial(const Params& params, int warpgroup, const Accumulators<T>& acc) {
  const int cta = static_cast<int>(blockIdx.x);
  float4* const target = partial_of<T>(params, cta, warpgroup);
#pragma unroll
  for (int i = 0; i < T::kAccumulators / 4; ++i) {
    __stcg(target + i * 128,
           make_float4(acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3]));
  }
  __threadfence();
  device::named_barrier_sync(warpgroup_barrier(warpgroup), 128);
  if (threadIdx.x % 128 == 0) device::store_release(flag_of(params, cta, warpgroup), 1);
}

/// Adds what other CTAs did of the tile, in a fixed order, and leaves their flags as they were.
template <typename T>
__device__ void add_partials(const Params& params, int tile, int warpgroup, Accumulators<T>& acc) {
  const gpu::ShareRange others = params.scheduler.contributors(tile);
  for (int share = others.begin; share < others.end; share += others.stride) {
    const int cta = params.scheduler.cta_of_share(share);
    std::uint32_t* const flag = flag_of(params, cta, warpgroup);
    if (threadIdx.x % 128 == 0) {
      while (device::load_acquire(flag) == 0) __nanosleep(64);
    }
    device::named_barrier_sync(warpgroup_barrier(warpgroup), 128);
    const float4* const source = partial_of<T>(params, cta, warpgroup);
#pragma unroll
    for (int i = 0; i < T::kAccumulators / 4; ++i) {
      const float4 part = __ldcg(source + i * 128);
      acc[4 * i] += part.x;
      acc[4 * i + 1] += part.y;
      acc[4 * i + 2] += part.z;
      acc[4 * i + 3] += part.w;
    }
    device::named_barrier_sync(warpgroup_barrier(warpgroup), 128);
    if (threadIdx.x % 128 == 0) *flag = 0;
  }
}

/// Writes Y of sparse tokens by TMA from shared memory: each warp its own 16, 64 outputs at a time.
/// Buffers in the stage that the tile used last let nearly all of it go without waiting for TMA,
/// which is busy with the next tile's stages.
template <typename T>
class Store {
 public:
  __device__ Store(std::uint32_t base, int warpgroup) : base_(base), warpgroup_(warpgroup) {}

  /// Asks for what the tile's tokens and outputs need, before its products hide the wait. `token`:
  /// the first of this warpgroup.
  __device__ __forceinline__ void prepare(int token, const Tile& tile) {
    const EpilogueParams& e = tile.of->epilogue;
    const int column = tile.dense_row + threadIdx.x % 128 * 2;
    if (column < e.outputs) bias_pair_ = epilogue_bias<Element>(e, column);
    const int upper = first_token(token) + threadIdx.x % 32 / 4;
    scale_[0] = scale_of(e, upper);
    scale_[1] = scale_of(e, upper + 8);
  }

  /// `token`, `tile`: as prepared. `lent`: the stage that both warpgroups have done with.
  __device__ __forceinline__ void write(int token, const Tile& tile, std::uint32_t lent,
                                        const Accumulators<T>& acc) const {
    static_assert(T::kTileDense == 2 * 128);  // a pair for each thread
    device::store_shared(bias_in(lent) + threadIdx.x % 128 * 8, bias_pair_);
    device::named_barrier_sync(warpgroup_barrier(warpgroup_), 128);
    const EpilogueParams& e = tile.of->epilogue;
    const int first = first_token(token);
    if (first >= e.tokens) return;
    // Each its own code: decisions element by element took three times as long as a GELU.
    if (e.gate != nullptr || e.residual != nullptr) {
      write_rows<Kind::general>(first, tile, lent, acc);
    } else if (e.activation == Activation::gelu) {
      write_rows<Kind::gelu>(first, tile, lent, acc);
    } else {
      write_rows<Kind::plain>(first, tile, lent, acc);
    }
  }

  /// Shared memory must not go before TMA has read it.
  __device__ void finish() const {
    if (threadIdx.x % 32 == 0) device::store_wait_read<0>();
  }

 private:
  using Element = typename T::Element;
  static constexpr int kBuffers = 1 + T::kBorrowedBuffers;

  /// What follows scale and bias: nothing, GELU alone, or anything with gate and residual.
  enum class Kind { plain, gelu, general };

  static __device__ int first_token(int token) { return token + threadIdx.x % 128 / 32 * 16; }
  __device__ std::uint32_t bias_in(std::uint32_t lent) const {
    return lent + T::kVectorInStage + warpgroup_ * T::kVectorBytes;
  }

  static __device__ float scale_of(const EpilogueParams& e, int token) {
    return token < e.tokens ? e.scale[token] : 1.0f;
  }

  __device__ std::uint32_t buffer_of(int chunk, std::uint32_t lent) const {
    const int which = chunk % kBuffers, warp = static_cast<int>(threadIdx.x) / 32;
    if (which == 0) return base_ + T::kStoreOffset + warp * T::kStoreBytes;
    return lent + (warp * T::kBorrowedBuffers + which - 1) * T::kStoreBytes;
  }

  template <Kind kKind>
  __device__ __forceinline__ void write_rows(int first, const Tile& tile, std::uint32_t lent,
                                             const Accumulators<T>& acc) const {
    const EpilogueParams& e = tile.of->epilogue;
    const int output = tile.dense_row, lane = threadIdx.x % 32;
    const std::uint32_t bias = bias_in(lent);
    const EpilogueRow<Element> upper = row_of<kKind>(e, first + lane / 4, scale_[0]);
    const EpilogueRow<Element> lower = row_of<kKind>(e, first + lane / 4 + 8, scale_[1]);
    std::uint32_t largest[2] = {};  // pairs of magnitudes of the upper and of the lower token
#pragma unroll
    for (int chunk = 0; chunk < T::kTileDense / T::kStoreOutputs; ++chunk) {
      const int column = output + chunk * T::kStoreOutputs;
      if (column >= e.outputs) break;
      const std::uint32_t buffer = buffer_of(chunk, lent);
      if (chunk % kBuffers == 0) {  // free since the last tile, or written three chunks ago
        if (lane == 0) device::store_wait_read<(kBuffers - 1)>();
        __syncwarp();
      }
#pragma unroll
      for (int pair = 0; pair < T::kStoreOutputs / 16; ++pair) {
        std::uint32_t packed[4];  // two 8-column matrices of the upper and the lower 8 tokens
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int j = chunk * (T::kStoreOutputs / 8) + 2 * pair + i;
          const int at = column + (2 * pair + i) * 8 + lane % 4 * 2;
          const float2 top{acc[4 * j], acc[4 * j + 1]}, bottom{acc[4 * j + 2], acc[4 * j + 3]};
          const float2 pair_bias = device::load_shared_pair(bias + (at - output) * 4);
          packed[2 * i] = finish_pair<kKind>(e, top, upper, at, pair_bias);
          packed[2 * i + 1] = finish_pair<kKind>(e, bottom, lower, at, pair_bias);
          if (e.largest == nullptr) continue;
          largest[0] = __vmaxu2(largest[0], packed[2 * i] & 0x7fff7fffu);
          largest[1] = __vmaxu2(largest[1], packed[2 * i + 1] & 0x7fff7fffu);
        }
        // Lane l addresses row l % 8 of matrix l / 8; 16-byte chunks are swizzled as the map says.
        const int row = lane % 8 + 8 * (lane / 8 % 2);
        const int chunk16 = 2 * pair + lane / 16;
        device::stmatrix_x4(buffer + row * 128 + ((chunk16 ^ (row % 8)) * 16), packed);
      }
      device::fence_async_proxy();
      __syncwarp();
      if (lane == 0) {
        device::tensor_store(&tile.of->y, column, first, buffer);
        device::store_commit();
      }
    }
    if (e.largest == nullptr) return;
    raise_largest(e, first + lane / 4, largest[0]);
    raise_largest(e, first + lane / 4 + 8, largest[1]);
  }

  /// Of a quad's lanes. As bits magnitudes are in order, NaN above all.
  static __device__ __forceinline__ void raise_largest(const EpilogueParams& e, int token,
                                                       std::uint32_t pair) {
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2) {
      pair = __vmaxu2(pair, __shfl_xor_sync(0xffffffffu, pair, lanes));
    }
    if (threadIdx.x % 4 != 0 || token >= e.tokens) return;
    const std::uint32_t bits = max(pair & 0xffffu, pair >> 16);
    atomicMax(reinterpret_cast<unsigned*>(e.largest + token),
              __float_as_uint(Element::to_float(static_cast<std::uint16_t>(bits))));
  }

  /// Rows beyond the last token are not stored; they look up the last one's.
  template <Kind kKind>
  static __device__ __forceinline__ EpilogueRow<Element> row_of(const EpilogueParams& e, int row,
                                                                float scale) {
    EpilogueRow<Element> result{scale, nullptr, nullptr};
    if constexpr (kKind == Kind::general) {
      result = epilogue_row<Element>(e, min(row, e.tokens - 1));
      result.scale = scale;
    }
    return result;
  }

  template <Kind kKind>
  static __device__ __forceinline__ std::uint32_t finish_pair(const EpilogueParams& e, float2 acc,
                                                              const EpilogueRow<Element>& row,
                                                              int column, float2 bias) {
    if constexpr (kKind == Kind::plain) {
      return Element::from_float2(scale_and_activate(acc, Activation::none, row.scale, bias));
    } else if constexpr (kKind == Kind::gelu) {
      return Element::from_float2(scale_and_activate(acc, Activation::gelu, row.scale, bias));
    }
    if (column >= e.outputs) return 0;  // nor are outputs beyond the last
    return Element::from_float2(epilogue_pair<Element>(acc, e.activation, row, column, bias));
  }

  std::uint32_t base_;
  int warpgroup_;
  float2 bias_pair_{0.0f, 0.0f};
  float scale_[2];
};

}  // namespace rtlynx::sm90
