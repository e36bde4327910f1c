// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/shared.cuh"
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

template <typename T>
__device__ void start_barriers(Ring<T> ring) {
  if (threadIdx.x == 0) {
    for (; ring.slot < T::kStages; ++ring.slot) {
      device::mbarrier_init(ring.full(), 1);
      device::mbarrier_init(ring.empty(), kThreads / 32);
    }
    device::mbarrier_init_fence();
  }
  __syncthreads();
}

/// The place of a CTA: its tokens, and its share of their channels.
template <typename T>
struct Span {
  Slice slice;
  int first_token;
  gpu::Producer producer;
  unsigned image;          // the row of the modulation that the first token reads
  bool staged_modulation;  // as do all others

  __device__ explicit Span(const Params& params) {
    const int index = device::cluster_rank(), count = device::cluster_size();
    const int steps = (params.tiles + T::kStepTiles - 1) / T::kStepTiles;
    slice = {index, count, steps * index / count, steps * (index + 1) / count};
    first_token = static_cast<int>(blockIdx.x) / count * kTileTokens;
    producer =
        T::kProducer == kAnyProducer ? params.producer : static_cast<gpu::Producer>(T::kProducer);
    const unsigned last = min(first_token + kTileTokens, params.tokens) - 1;
    image = first_token / params.image_tokens;
    staged_modulation = image == last / params.image_tokens;
  }

  __device__ int steps() const { return slice.end_step - slice.first_step; }
  __device__ bool norm() const { return T::kMaybeNorm && is_norm(producer); }
  /// A norm reads its tokens twice: whether they stay in shared memory.
  __device__ bool stays() const { return steps() <= T::kStages; }
};

/// Keeps the ring full: one thread's work.
template <typename T>
class Loader {
 public:
  __device__ Loader(const Params& params, const TensorMaps& maps, const Span<T>& span, Ring<T> ring)
      : params_(params), maps_(maps), span_(span), ring_(ring) {
    const int passes = span.norm() && !span.stays() ? 2 : 1;
    left_ = passes * span.steps();
    step_ = span.slice.first_step;
  }

  __device__ void fill() {
    for (int stage = 0; stage < T::kStages; ++stage) load_next();
  }

  /// Waits until all warps have read the stage that is the longest in the ring; by then they have.
  __device__ void load_next() {
    if (left_ == 0) return;
    device::mbarrier_wait(ring_.empty(), ring_.phase ^ 1);
    device::mbarrier_arrive_expect(ring_.full(), T::kModulationOffset + modulation_bytes(step_));
#pragma unroll
    for (int tile = 0; tile < T::kStepTiles; ++tile) load_tile(step_ * T::kStepTiles + tile, tile);
    if constexpr (T::kTransform > 0) load_transform(step_);
    ring_.advance();
    --left_;
    if (++step_ == span_.slice.end_step) step_ = span_.slice.first_step;
  }

 private:
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

  __device__ void load_tile(int tile, int step_tile) const {
    const int channel = tile * kPackedTileChannels;
    device::tensor_load(ring_.x(step_tile), &maps_.x, channel, span_.first_token, ring_.full());
    if constexpr (T::kSwiglu) {
      device::tensor_load(ring_.up(step_tile), &maps_.up, channel, span_.first_token, ring_.full());
    }
    if constexpr (T::kRank > 0) {
      device::tensor_load(ring_.down(step_tile), &maps_.down, channel, first_column<T>(),
                          ring_.full());
    }
    const int bytes = modulated_channels(tile) * 4;
    if (!stages_modulation() || bytes == 0) return;
    const std::int64_t at = static_cast<std::int64_t>(span_.image) * params_.channels + channel;
    if (params_.multiplier != nullptr) {
      device::bulk_load(ring_.multiplier(step_tile), params_.multiplier + at, bytes, ring_.full());
    }
    if (params_.shift != nullptr) {
      device::bulk_load(ring_.shift(step_tile), params_.shift + at, bytes, ring_.full());
    }
  }

  __device__ void load_transform(int step) const {
#pragma unroll
    for (int output = 0; output < T::kTransform; ++output) {
#pragma unroll
      for (int input = 0; input < T::kTransform; ++input) {
        const int at[5] = {input * kPackedTileChannels, 0, 0, 0, step * T::kStepTiles + output};
        device::tensor_load(ring_.transform(output, input), &maps_.transform, at, ring_.full());
      }
    }
  }

  const Params& params_;
  const TensorMaps& maps_;
  const Span<T>& span_;
  Ring<T> ring_;
  int left_;  // steps to load
  int step_;  // the next
};

}  // namespace rtlynx::pack::sm90
