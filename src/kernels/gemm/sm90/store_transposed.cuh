// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/gemm/sm90/store.cuh"

namespace rtlynx::sm90 {

/// Writes Y where outputs are sparse: a warpgroup holds 64 outputs of 256 tokens, which it turns
/// over in shared memory, 64 tokens at a time, so that TMA writes whole rows of 64 outputs. Thread
/// and lane hold two outputs and, in each eight tokens, two neighbours.
template <typename T>
class TransposedStore {
 public:
  __device__ TransposedStore(std::uint32_t base, int warpgroup)
      : base_(base), warpgroup_(warpgroup) {}

  /// Asks for what the tile's tokens and outputs need, before its products hide the wait.
  /// `first_output`: of this warpgroup.
  __device__ __forceinline__ void prepare(int first_output, const Tile& tile) {
    const EpilogueParams& e = tile.of->epilogue;
    static_assert(T::kTileDense == 2 * 128);  // two tokens for each thread
    const int token = tile.dense_row + threadIdx.x % 128 * 2;
    token_scale_ = {scale_of(e.scale, token, e.tokens), scale_of(e.scale, token + 1, e.tokens)};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int output = output_of(first_output, half);
      output_scale_[half] = scale_of(e.output_scale, output, e.outputs);
      bias_[half] = bias_of(e, output);
    }
  }

  /// `first_output`, `tile`: as prepared. `lent`: the stage that both warpgroups have done with.
  __device__ __forceinline__ void write(int first_output, const Tile& tile, std::uint32_t lent,
                                        const Accumulators<T>& acc) const {
    device::store_shared(scales_in(lent) + threadIdx.x % 128 * 8, token_scale_);
    sync();
    const EpilogueParams& e = tile.of->epilogue;
    if (e.gate != nullptr || e.residual != nullptr) {
      write_tokens<Kind::general>(first_output, tile, lent, acc);
    } else if (e.activation == Activation::gelu) {
      write_tokens<Kind::gelu>(first_output, tile, lent, acc);
    } else {
      write_tokens<Kind::plain>(first_output, tile, lent, acc);
    }
  }

  /// Shared memory must not go before TMA has read it.
  __device__ void finish() const {
    if (threadIdx.x % 128 == 0) device::store_wait_read<0>();
  }

 private:
  using Element = typename T::Element;
  using Bits = typename Element::Bits;
  static constexpr int kBuffers = 1 + T::kBorrowedBuffers;
  static constexpr int kBufferBytes = 4 * T::kStoreBytes;  // [64 tokens][64 outputs]
  static constexpr int kChunkTokens = T::kStoreTokens;

  /// What follows scale and bias: nothing, GELU alone, or anything with gate and residual.
  enum class Kind { plain, gelu, general };

  /// The gates of this thread's two outputs, for the picture that a token belongs to.
  struct Gate {
    float of[2];
    int end;  // the first token of the next picture
  };

  __device__ void sync() const { device::named_barrier_sync(warpgroup_barrier(warpgroup_), 128); }

  static __device__ int output_of(int first_output, int half) {
    return first_output + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + 8 * half;
  }

  static __device__ float scale_of(const float* scale, int index, int count) {
    return scale != nullptr && index < count ? scale[index] : 1.0f;
  }

  static __device__ float bias_of(const EpilogueParams& e, int output) {
    if (e.bias == nullptr || output >= e.outputs) return 0.0f;
    if (e.bias_is_f32) return static_cast<const float*>(e.bias)[output];
    return Element::to_float(static_cast<const Bits*>(e.bias)[output]);
  }

  __device__ std::uint32_t scales_in(std::uint32_t lent) const {
    return lent + T::kVectorInStage + warpgroup_ * T::kVectorBytes;
  }

  __device__ std::uint32_t buffer_of(int chunk, std::uint32_t lent) const {
    const int which = chunk % kBuffers;
    if (which == 0) return base_ + T::kStoreOffset + warpgroup_ * kBufferBytes;
    return lent + (warpgroup_ * T::kBorrowedBuffers + which - 1) * kBufferBytes;
  }

  /// Where a 16-byte chunk of a token's 64 outputs lies, swizzled as the map of Y says.
  static __device__ int place_of(int token, int chunk16) {
    return token * 128 + (chunk16 ^ (token % 8)) * 16;
  }

  template <Kind kKind>
  __device__ __forceinline__ void write_tokens(int first_output, const Tile& tile,
                                               std::uint32_t lent,
                                               const Accumulators<T>& acc) const {
    const EpilogueParams& e = tile.of->epilogue;
    Gate gate{{1.0f, 1.0f}, e.gate == nullptr ? e.tokens : 0};
#pragma unroll
    for (int chunk = 0; chunk < T::kTileDense / kChunkTokens; ++chunk) {
      const int token = tile.dense_row + chunk * kChunkTokens;
      if (token >= e.tokens) break;
      const std::uint32_t buffer = buffer_of(chunk, lent);
      // The first was free when the last tile's stage went back, before sync() above.
      if (chunk > 0 && chunk % kBuffers == 0) {
        if (threadIdx.x % 128 == 0) device::store_wait_read<kBuffers - 1>();
        sync();
      }
      if (kKind == Kind::general && e.residual != nullptr) {
        load_residual(e, token, first_output, buffer);
        sync();
      }
#pragma unroll
      for (int pair = 0; pair < kChunkTokens / 16; ++pair) {
        write_sixteen<kKind>(e, token, first_output, chunk, pair, buffer, lent, gate, acc);
      }
      device::fence_async_proxy();
      sync();
      if (threadIdx.x % 128 == 0) {
        device::tensor_store(&tile.of->y, first_output, token, buffer);
        device::store_commit();
      }
    }
  }

  /// Sixteen tokens of this warp's sixteen outputs: matrices of 8 x 8, of the upper and the lower
  /// outputs of the first eight tokens, then of the others.
  template <Kind kKind>
  __device__ __forceinline__ void write_sixteen(const EpilogueParams& e, int token,
                                                int first_output, int chunk, int pair,
                                                std::uint32_t buffer, std::uint32_t lent,
                                                Gate& gate, const Accumulators<T>& acc) const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
    const int row = 16 * pair + lane / 16 * 8 + lane % 8, chunk16 = 2 * warp + lane / 8 % 2;
    const std::uint32_t place = buffer + place_of(row, chunk16);
    std::uint32_t packed[4] = {};
    if (kKind == Kind::general && e.residual != nullptr) {
      device::ldmatrix_x4_transposed(place, packed);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int in_chunk = 16 * pair + 8 * i + lane % 4 * 2;
      const float2 scale =
          device::load_shared_pair(scales_in(lent) + (chunk * kChunkTokens + in_chunk) * 4);
      const int j = chunk * (kChunkTokens / 8) + 2 * pair + i;
      float2 upper = activated<kKind>(e, {acc[4 * j], acc[4 * j + 1]}, scale, 0);
      float2 lower = activated<kKind>(e, {acc[4 * j + 2], acc[4 * j + 3]}, scale, 1);
      if constexpr (kKind == Kind::general) {
        const int first = token + in_chunk;
        multiply(e, first, first_output, gate, upper.x, lower.x);
        multiply(e, first + 1, first_output, gate, upper.y, lower.y);
        if (e.residual != nullptr) {
          upper = add_pair<Element>(upper, packed[2 * i]);
          lower = add_pair<Element>(lower, packed[2 * i + 1]);
        }
      }
      packed[2 * i] = Element::from_float2(upper);
      packed[2 * i + 1] = Element::from_float2(lower);
    }
    device::stmatrix_x4_transposed(place, packed);
  }

  /// Two tokens of one of this thread's outputs.
  template <Kind kKind>
  __device__ __forceinline__ float2 activated(const EpilogueParams& e, float2 acc, float2 scale,
                                              int half) const {
    const float2 v{fmaf(scale.x * output_scale_[half], acc.x, bias_[half]),
                   fmaf(scale.y * output_scale_[half], acc.y, bias_[half])};
    if (kKind == Kind::plain) return v;
    if (kKind == Kind::general && e.activation == Activation::none) return v;
    return {device::gelu_tanh(v.x), device::gelu_tanh(v.y)};
  }

  /// By the gates of the token's picture. Tokens come in order.
  static __device__ __forceinline__ void multiply(const EpilogueParams& e, int token,
                                                  int first_output, Gate& gate, float& upper,
                                                  float& lower) {
    if (token >= gate.end && token < e.tokens) look_up(e, token, first_output, gate);
    upper *= gate.of[0];
    lower *= gate.of[1];
  }

  static __device__ void look_up(const EpilogueParams& e, int token, int first_output, Gate& gate) {
    const int image_tokens = static_cast<int>(e.image_tokens);
    const int image = token / image_tokens;
    const Bits* const row = static_cast<const Bits*>(e.gate) + image * e.gate_stride;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int output = output_of(first_output, half);
      if (output < e.outputs) gate.of[half] = Element::to_float(row[output]);
    }
    // The last picture's end may lie beyond what an int holds.
    gate.end = image_tokens > e.tokens - token ? e.tokens : (image + 1) * image_tokens;
  }

  /// 64 tokens' residual into the buffer that Y leaves from, row by row.
  __device__ __forceinline__ void load_residual(const EpilogueParams& e, int first_token,
                                                int first_output, std::uint32_t buffer) const {
#pragma unroll
    for (int i = 0; i < kChunkTokens * 8 / 128; ++i) {
      const int at = i * 128 + threadIdx.x % 128;
      const int row = at / 8, chunk16 = at % 8, output = first_output + chunk16 * 8;
      uint4 eight{};
      if (first_token + row < e.tokens && output < e.outputs) {
        const auto* const source =
            static_cast<const Bits*>(e.residual) + (first_token + row) * e.residual_stride + output;
        eight = *reinterpret_cast<const uint4*>(source);
      }
      device::store_shared_vector(buffer + place_of(row, chunk16), eight);
    }
  }

  std::uint32_t base_;
  int warpgroup_;
  float2 token_scale_{1.0f, 1.0f};
  float output_scale_[2];
  float bias_[2];
};

}  // namespace rtlynx::sm90
