// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/mbarrier.cuh"
#include "kernels/device/tma.cuh"
#include "kernels/pack/sm90/traits.cuh"
#include "kernels/pack/token_pair.cuh"

namespace rtlynx::pack::sm90 {

/// The stages in shared memory and their barriers. `full`: TMA has written the stage. `empty`: all
/// warps have read it.
template <typename T>
struct Ring {
  std::uint32_t base;
  int slot = 0;
  std::uint32_t phase = 0;

  __device__ std::uint32_t stage() const { return base + slot * T::kStageBytes; }
  __device__ std::uint32_t x(int tile) const { return stage() + tile * kTileBytes; }
  __device__ std::uint32_t up(int tile) const { return x(tile) + T::kUpOffset; }
  __device__ std::uint32_t transform(int output_tile, int input_tile) const {
    return stage() + T::kTransformOffset +
           (output_tile * T::kTransform + input_tile) * kMatrixBytes;
  }
  __device__ std::uint32_t down(int tile) const {
    return stage() + T::kDownOffset + tile * T::kDownBytes;
  }
  /// 0: the norm's weight, 1: the modulation's scale, 2: its shift.
  __device__ std::uint32_t modulation(int tile, int which) const {
    return stage() + T::kModulationOffset + (T::kModulations * tile + which) * T::kModulationBytes;
  }

  __device__ std::uint32_t full() const { return base + T::kBarrierOffset + 16 * slot; }
  __device__ std::uint32_t empty() const { return full() + 8; }

  __device__ void advance() {
    if (++slot == T::kStages) {
      slot = 0;
      phase ^= 1;
    }
  }
};

/// A CTA's run of steps (runs.h).
template <typename T>
struct Span {
  int begin;
  int end;

  __device__ explicit Span(const Runs& runs)
      : begin(runs.begin(blockIdx.x)), end(runs.begin(blockIdx.x + 1)) {}

  __device__ int steps() const { return end - begin; }
};

/// Norms: whether the tokens of a block read one row of the modulation, which then comes by TMA.
__device__ __forceinline__ bool share_modulation(const Params& params, int first_token) {
  const unsigned last = min(first_token + kTileTokens, params.tokens) - 1;
  return first_token / params.image_tokens == last / params.image_tokens;
}

/// What is loaded next.
template <typename T>
struct Cursor {
  Ring<T> ring;
  int step;  // of the tokens from
  int first_token;
  int left;  // steps to load
};

/// Keeps the ring full: one thread's work.
template <typename T>
class Loader {
 public:
  __device__ Loader(const Params& params, const Runs& runs, const TensorMaps& maps,
                    const Span<T>& span, Cursor<T>& next)
      : params_(params), runs_(runs), maps_(maps), span_(span), next_(next) {}

  /// Before all other threads: starts the barriers, and the first steps on their way.
  __device__ void start(std::uint32_t shared) const {
    device::prefetch_tensor_map(&maps_.x);
    for (Ring<T> ring{shared}; ring.phase == 0; ring.advance()) {
      device::mbarrier_init(ring.full(), 1);
      device::mbarrier_init(ring.empty(), kThreads / 32);
    }
    device::mbarrier_init_fence();
    const Piece piece = runs_.piece(span_.begin, span_.end);
    next_ = {.ring = {shared},
             .step = piece.first_step,
             .first_token = piece.block * kTileTokens,
             .left = span_.steps()};
    for (int stage = kBehind; stage < T::kStages; ++stage) load_next();
  }

  /// When a step is done: loads what goes to the stage of the step before it, which all warps have
  /// read by now; of few stages to this very one, or nothing would be on the way.
  __device__ void load_next() const {
    if (next_.left == 0) return;
    const Ring<T> ring = next_.ring;
    const int step = next_.step, first_token = next_.first_token;
    device::mbarrier_wait(ring.empty(), ring.phase ^ 1);
    device::mbarrier_arrive_expect(ring.full(),
                                   T::kModulationOffset + modulation_bytes(step, first_token));
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      load_tile(ring, tile, step * T::kStepTiles + tile, first_token);
    }
    if constexpr (T::kTransform > 0) load_transform(ring, step);
    next_.ring.advance();
    --next_.left;
    if (++next_.step == runs_.steps()) {
      next_.step = 0;
      next_.first_token += kTileTokens;
    }
  }

 private:
  static constexpr int kBehind = T::kStages < 3 ? 0 : 1;

  /// Elements of each vector of the modulation that belong to a tile.
  __device__ int modulated_channels(int tile) const {
    return max(0, min(kPackedTileChannels, params_.channels - tile * kPackedTileChannels));
  }

  __device__ int modulation_bytes(int step, int first_token) const {
    if (!T::kNorm || !share_modulation(params_, first_token)) return 0;
    int channels = 0;
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      channels += modulated_channels(step * T::kStepTiles + tile);
    }
    const int vectors = (params_.weight != nullptr) + (params_.modulation_scale != nullptr) +
                        (params_.modulation_shift != nullptr);
    return channels * vectors * 2;
  }

  __device__ void load_tile(const Ring<T>& ring, int step_tile, int tile, int first_token) const {
    const int channel = tile * kPackedTileChannels;
    const bool in_tail = !T::kProduces && channel >= params_.tail_start;
    device::tensor_load(ring.x(step_tile), in_tail ? &maps_.other : &maps_.x,
                        in_tail ? channel - params_.tail_start : channel, first_token, ring.full());
    if constexpr (T::kSwiglu) {
      device::tensor_load(ring.up(step_tile), &maps_.other, channel, first_token, ring.full());
    }
    if constexpr (T::kRank > 0) {
      device::tensor_load(ring.down(step_tile), &maps_.down, channel, first_column<T>(),
                          ring.full());
    }
    if constexpr (T::kNorm) load_modulation(ring, step_tile, tile, first_token);
  }

  __device__ void load_modulation(const Ring<T>& ring, int step_tile, int tile,
                                  int first_token) const {
    const int bytes = modulated_channels(tile) * 2;
    if (bytes == 0 || !share_modulation(params_, first_token)) return;
    const std::int64_t image = first_token / params_.image_tokens;
    const auto load = [&](int which, const void* vector, std::int64_t stride) {
      if (vector == nullptr) return;
      const auto* const row = static_cast<const std::uint16_t*>(vector) + image * stride;
      device::bulk_load(ring.modulation(step_tile, which), row + tile * kPackedTileChannels, bytes,
                        ring.full());
    };
    load(0, params_.weight, 0);
    load(1, params_.modulation_scale, params_.scale_stride);
    load(2, params_.modulation_shift, params_.shift_stride);
  }

  __device__ void load_transform(const Ring<T>& ring, int step) const {
#pragma unroll
    for (int output = 0; output < T::kTransform; ++output) {
#pragma unroll
      for (int input = 0; input < T::kTransform; ++input) {
        const int at[5] = {input * kPackedTileChannels, 0, 0, 0, step * T::kStepTiles + output};
        device::tensor_load(ring.transform(output, input), &maps_.transform, at, ring.full());
      }
    }
  }

  const Params& params_;
  const Runs& runs_;
  const TensorMaps& maps_;
  const Span<T>& span_;
  Cursor<T>& next_;
};

}  // namespace rtlynx::pack::sm90
