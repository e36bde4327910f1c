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
  __device__ std::uint32_t multiplier(int tile) const {
    return stage() + T::kModulationOffset + 2 * tile * T::kModulationBytes;
  }
  __device__ std::uint32_t shift(int tile) const { return multiplier(tile) + T::kModulationBytes; }

  __device__ std::uint32_t full() const { return base + T::kBarrierOffset + 16 * slot; }
  __device__ std::uint32_t empty() const { return full() + 8; }

  __device__ void advance() {
    if (++slot == T::kStages) {
      slot = 0;
      phase ^= 1;
    }
  }
};

/// A CTA's run of steps (runs.h), which a norm takes twice.
template <typename T>
struct Span {
  int begin;
  int end;
  gpu::Producer producer;
  unsigned image;          // norms: the row of the modulation that the first token reads
  bool staged_modulation;  // norms: as do all others

  __device__ Span(const Params& params, const Runs& runs)
      : begin(runs.begin(blockIdx.x)), end(runs.begin(blockIdx.x + 1)) {
    producer =
        T::kProducer == kAnyProducer ? params.producer : static_cast<gpu::Producer>(T::kProducer);
    if (!norm()) return;
    const int first_token = runs.piece(begin, end).block * kTileTokens;
    const unsigned last = min(first_token + kTileTokens, params.tokens) - 1;
    image = first_token / params.image_tokens;
    staged_modulation = image == last / params.image_tokens;
  }

  __device__ int steps() const { return end - begin; }
  __device__ bool norm() const { return T::kMaybeNorm && is_norm(producer); }
  /// Whether the tokens that a norm reads twice stay in shared memory.
  __device__ bool stays() const { return steps() <= T::kStages; }
};

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
    const bool stays = span_.norm() && span_.stays();
    next_ = {.ring = {shared},
             .step = piece.first_step,
             .first_token = piece.block * kTileTokens,
             .left = (span_.norm() && !stays ? 2 : 1) * span_.steps()};
    for (int stage = stays ? 0 : kBehind; stage < T::kStages; ++stage) load_next();
  }

  /// When a step is done: loads what goes to the stage of the step before it, which all warps have
  /// read by now; of few stages to this very one, or nothing would be on the way.
  __device__ void load_next() const {
    if (next_.left == 0) return;
    const Ring<T> ring = next_.ring;
    const int step = next_.step, first_token = next_.first_token;
    device::mbarrier_wait(ring.empty(), ring.phase ^ 1);
    device::mbarrier_arrive_expect(ring.full(), T::kModulationOffset + modulation_bytes(step));
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      load_tile(ring, tile, step * T::kStepTiles + tile, first_token);
    }
    if constexpr (T::kTransform > 0) load_transform(ring, step);
    next_.ring.advance();
    --next_.left;
    ++next_.step;
    if (span_.norm()) {
      if (next_.left == span_.steps()) next_.step -= span_.steps();  // the second pass
    } else if (next_.step == runs_.steps()) {
      next_.step = 0;
      next_.first_token += kTileTokens;
    }
  }

 private:
  static constexpr int kBehind = T::kStages < 3 ? 0 : 1;

  /// Floats of each modulation vector that belong to a tile.
  __device__ int modulated_channels(int tile) const {
    return max(0, min(kPackedTileChannels, params_.channels - tile * kPackedTileChannels));
  }
  __device__ bool stages_modulation() const { return span_.norm() && span_.staged_modulation; }

  __device__ int modulation_bytes(int step) const {
    if (!stages_modulation()) return 0;
    int channels = 0;
    for (int tile = 0; tile < T::kStepTiles; ++tile) {
      channels += modulated_channels(step * T::kStepTiles + tile);
    }
    const int vectors = (params_.multiplier != nullptr) + (params_.shift != nullptr);
    return channels * vectors * 4;
  }

  __device__ void load_tile(const Ring<T>& ring, int step_tile, int tile, int first_token) const {
    const int channel = tile * kPackedTileChannels;
    device::tensor_load(ring.x(step_tile), &maps_.x, channel, first_token, ring.full());
    if constexpr (T::kSwiglu) {
      device::tensor_load(ring.up(step_tile), &maps_.up, channel, first_token, ring.full());
    }
    if constexpr (T::kRank > 0) {
      device::tensor_load(ring.down(step_tile), &maps_.down, channel, first_column<T>(),
                          ring.full());
    }
    const int bytes = modulated_channels(tile) * 4;
    if (!stages_modulation() || bytes == 0) return;
    const std::int64_t at = static_cast<std::int64_t>(span_.image) * params_.channels + channel;
    if (params_.multiplier != nullptr) {
      device::bulk_load(ring.multiplier(step_tile), params_.multiplier + at, bytes, ring.full());
    }
    if (params_.shift != nullptr) {
      device::bulk_load(ring.shift(step_tile), params_.shift + at, bytes, ring.full());
    }
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
