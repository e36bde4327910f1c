// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/mma.cuh"
#include "kernels/device/packed_tile.h"
#include "kernels/pack/params.h"
#include "kernels/pack/producer.cuh"
#include "kernels/pack/select24.cuh"
#include "kernels/pack/token_scale.cuh"

/// What a thread does with the two tokens it holds. A warp has 16 tokens; lane l has tokens l / 4
/// and l / 4 + 8 and, of every 64 channels, the 16 from 16 (l % 4) on. So whole groups lie in one
/// thread, a thread's 8 kept values are one 16-byte chunk of the packed tile, and its 8 nibbles are
/// its own metadata word.
namespace rtlynx::pack {

/// The thread's first channel of a tile of 64.
__device__ __forceinline__ int channel_of(int tile) {
  return tile * kPackedTileChannels + static_cast<int>(threadIdx.x) % 4 * 16;
}

/// The row of the thread's upper token in its warpgroup's 64.
__device__ __forceinline__ int row_of_thread() {
  return static_cast<int>(threadIdx.x) % 128 / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
}

/// Where a thread writes its part of the packed tile at `packed`.
class PackedPlace {
 public:
  PackedPlace() = default;
  __device__ explicit PackedPlace(char* packed)
      : values_(packed + packed_chunk_offset(row_of_thread(), threadIdx.x % 4)),
        metadata_(kPackedTileValueBytes + static_cast<int>(threadIdx.x) % 128 * 4 -
                  packed_chunk_offset(row_of_thread(), threadIdx.x % 4)) {}

  __device__ __forceinline__ void store(const Selected& selected) const {
    const auto& u = selected.upper;
    const auto& l = selected.lower;
    constexpr int kEightRows = packed_chunk_offset(8, 0);
    static_assert(packed_chunk_offset(13, 2) == packed_chunk_offset(5, 2) + kEightRows);
    *reinterpret_cast<uint4*>(values_) = make_uint4(u[0], u[1], u[2], u[3]);
    *reinterpret_cast<uint4*>(values_ + kEightRows) = make_uint4(l[0], l[1], l[2], l[3]);
    *reinterpret_cast<std::uint32_t*>(values_ + metadata_) = selected.metadata;
  }

  /// To a tile so many bytes on.
  __device__ __forceinline__ void advance(std::int64_t bytes) { values_ += bytes; }

 private:
  char* values_;  // the upper token's
  int metadata_;  // from there
};

/// Four kept values, multiplied by a factor, to four codes of e4m3.
template <typename Element>
__device__ __forceinline__ std::uint32_t codes_of(std::uint32_t first, std::uint32_t second,
                                                  float factor) {
  const float2 a = Element::to_float2(first), b = Element::to_float2(second);
  return device::to_e4m3x4({a.x * factor, a.y * factor}, {b.x * factor, b.y * factor});
}

/// Writes a thread's part of a packed tile of e4m3 at `packed`. A thread's 8 codes of a token are
/// half a chunk. The words of metadata are shared otherwise than those of 16-bit elements: an even
/// lane has the upper token's groups of two lanes, its neighbour the lower one's. Whole warps.
/// `half`: channels 64 half .. of the tile. `factors`: of the upper and of the lower token.
template <typename Element>
__device__ __forceinline__ void store_codes(char* packed, int half, const Selected& selected,
                                            float2 factors) {
  const int row = row_of_thread(), lane = static_cast<int>(threadIdx.x) % 32, quad = lane % 4;
  const auto& u = selected.upper;
  const auto& l = selected.lower;
  char* const values = packed + narrow_chunk_offset(row, 2 * half + quad / 2) + quad % 2 * 8;
  constexpr int kEightRows = narrow_chunk_offset(8, 0);
  *reinterpret_cast<uint2*>(values) = make_uint2(codes_of<Element>(u[0], u[1], factors.x),
                                                 codes_of<Element>(u[2], u[3], factors.x));
  *reinterpret_cast<uint2*>(values + kEightRows) = make_uint2(
      codes_of<Element>(l[0], l[1], factors.y), codes_of<Element>(l[2], l[3], factors.y));
  const std::uint32_t others = __shfl_xor_sync(0xffffffffu, selected.metadata, 1);
  const std::uint32_t word =
      __byte_perm(selected.metadata, others, lane % 2 == 0 ? 0x5410 : 0x3276);
  char* const words = packed + kPackedTileValueBytes + half * kPackedMetadataBytes;
  *reinterpret_cast<std::uint32_t*>(words + static_cast<int>(threadIdx.x) % 128 * 4) = word;
}

/// A token's factor; one that does not exist takes any.
__device__ __forceinline__ float code_factor(const Params& params, int token) {
  return __ldg(params.code_factor + min(token, params.tokens - 1));
}

/// What a 1 in the token's kept values stands for, `s` restoring its norm.
__device__ __forceinline__ float scale_of(const Params& params, int token, float s) {
  return params.code_factor == nullptr ? s : s / params.code_factor[token];
}

/// Writes z to Params::z.
__device__ __forceinline__ void store_input(const Params& params, const Place& place, int channel,
                                            const TokenPair& z) {
  if (channel >= params.channels) return;
  auto* const row = static_cast<std::uint16_t*>(params.z) +
                    static_cast<std::int64_t>(place.upper) * params.channels + channel;
  const auto write = [](std::uint16_t* target, const std::uint32_t(&pairs)[8]) {
    for (int i = 0; i < 8; ++i) reinterpret_cast<std::uint32_t*>(target)[i] = pairs[i];
  };
  if (place.has_upper) write(row, z.upper);
  if (place.has_lower) write(row + 8 * params.channels, z.lower);
}

/// The sums of squares of a warp's tokens. Nearly always the tensor cores add them up: of the
/// product of the 16 tokens and eight of them transposed, the diagonal holds the sums of the eight.
/// One instruction does the work of eight, and what it computes beside the diagonal costs nothing.
class PairSums {
 public:
  /// What steps with elements beyond the middle range gave, of the upper and of the lower token: in
  /// shared memory, so that it costs no registers. Zeros to begin with.
  using Beyond = float4[2];

  template <typename Element>
  __device__ __forceinline__ void add(const TokenPair& z, const Selected& selected,
                                      Beyond& beyond) {
    if (selected.usual) {
      add_squares<Element>(all_, z.upper, z.lower);
      add_squares<Element>(kept_, selected.upper, selected.lower);
    } else {
      add_beyond<Element>(beyond[0], z.upper, selected.upper, selected.largest & 0xffffu);
      add_beyond<Element>(beyond[1], z.lower, selected.lower, selected.largest >> 16);
    }
  }

  /// The sums of the two tokens, added up over the quad's lanes.
  __device__ TokenSums upper(const Beyond& beyond) const {
    return finish(all_.upper[0], all_.upper[1], kept_.upper[0], kept_.upper[1], beyond[0]);
  }
  __device__ TokenSums lower(const Beyond& beyond) const {
    return finish(all_.lower[2], all_.lower[3], kept_.lower[2], kept_.lower[3], beyond[1]);
  }

 private:
  /// Accumulators [16 tokens, 8 tokens]: the upper ones' sums are in rows 0 to 7 of `upper`, the
  /// lower ones' in rows 8 to 15 of `lower`.
  struct Products {
    float upper[4] = {}, lower[4] = {};
  };

  template <typename Element, int kPairs>
  static __device__ __forceinline__ void add_squares(Products& sums,
                                                     const std::uint32_t (&upper)[kPairs],
                                                     const std::uint32_t (&lower)[kPairs]) {
#pragma unroll
    for (int i = 0; i < kPairs; i += 2) {
      const std::uint32_t tokens[4] = {upper[i], lower[i], upper[i + 1], lower[i + 1]};
      device::mma_m16n8k16<Element>(sums.upper, tokens, {upper[i], upper[i + 1]});
      device::mma_m16n8k16<Element>(sums.lower, tokens, {lower[i], lower[i + 1]});
    }
  }

  template <typename Element>
  static __device__ void add_beyond(float4& sums, const std::uint32_t (&all)[8],
                                    const std::uint32_t (&kept)[4], std::uint32_t largest) {
    TokenSums total = TokenSums::from(sums);
    total.template add<Element>(all, kept, largest);
    sums = total.to_float4();
  }

  /// Lane l has columns 2 (l % 4) and the next of row l / 4: one lane of a quad the diagonal.
  static __device__ __forceinline__ TokenSums finish(float even_all, float odd_all, float even_kept,
                                                     float odd_kept, const float4& beyond) {
    const int row = threadIdx.x % 32 / 4;
    const bool own = row / 2 == threadIdx.x % 4, odd = row % 2 != 0;
    const float all = odd ? odd_all : even_all, kept = odd ? odd_kept : even_kept;
    TokenSums sums = TokenSums::from(beyond);
    sums.add_middle(own ? all : 0.0f, own ? kept : 0.0f);
    sums.add_quad();
    return sums;
  }

  Products all_, kept_;
};

}  // namespace rtlynx::pack
