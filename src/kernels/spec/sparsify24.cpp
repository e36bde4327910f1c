// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <type_traits>

#include "base/half.h"
#include "kernels/spec/matrix.h"
#include "kernels/spec/scale24.h"
#include "kernels/spec/select24.h"
#include "rtlynx/compress24.h"

// Everything here is inlined into two callers, one of which is compiled for AVX2.
#define RTLYNX_INLINE inline __attribute__((always_inline))

namespace rtlynx {
namespace {

// One step of the row: small enough for the first-level cache, and its groups side by side keep the
// sums free of a chain of additions.
constexpr int kStepGroups = 16;
constexpr int kStepChannels = kGroup * kStepGroups;

struct Sums {
  float kept[kStepGroups] = {};
  float dropped[kStepGroups] = {};
};

// Masks are all ones or all zeros, so that choices are bit operations.
RTLYNX_INLINE std::int32_t exceeds(std::int32_t a, std::int32_t b) { return -(a > b); }
RTLYNX_INLINE std::int32_t majority(std::int32_t a, std::int32_t b, std::int32_t c) {
  return (a & b) | (c & (a | b));
}
RTLYNX_INLINE std::int32_t key(float value) {
  const std::int32_t magnitude = std::bit_cast<std::int32_t>(value) & 0x7fffffff;
  return magnitude < 0x7f800001 ? magnitude : 0x7f800001;
}

RTLYNX_INLINE void add_square(float value, std::int32_t stays, float& kept, float& dropped) {
  const std::int32_t square = std::bit_cast<std::int32_t>(value * value);
  kept += std::bit_cast<float>(square & stays);
  dropped += std::bit_cast<float>(square & ~stays);
}

// x -> mask of the channels that stay; adds the squares of both sorts.
RTLYNX_INLINE void select_groups(const float* __restrict x, std::int32_t* __restrict stays,
                                 int groups, Sums& totals) {
  Sums sums = totals;
  for (int g = 0; g < groups; ++g) {
    const float x0 = x[4 * g], x1 = x[4 * g + 1], x2 = x[4 * g + 2], x3 = x[4 * g + 3];
    const std::int32_t k0 = key(x0), k1 = key(x1), k2 = key(x2), k3 = key(x3);
    // over_ji: the higher channel j outranks the lower i. A channel that outranks two stays.
    const std::int32_t over10 = exceeds(k1, k0), over20 = exceeds(k2, k0), over30 = exceeds(k3, k0);
    const std::int32_t over21 = exceeds(k2, k1), over31 = exceeds(k3, k1), over32 = exceeds(k3, k2);
    const std::int32_t stays0 = ~majority(over10, over20, over30);
    const std::int32_t stays1 = majority(over10, ~over21, ~over31);
    const std::int32_t stays2 = majority(over20, over21, ~over32);
    const std::int32_t stays3 = majority(over30, over31, over32);
    add_square(x0, stays0, sums.kept[g], sums.dropped[g]);
    add_square(x1, stays1, sums.kept[g], sums.dropped[g]);
    add_square(x2, stays2, sums.kept[g], sums.dropped[g]);
    add_square(x3, stays3, sums.kept[g], sums.dropped[g]);
    stays[4 * g] = stays0;
    stays[4 * g + 1] = stays1;
    stays[4 * g + 2] = stays2;
    stays[4 * g + 3] = stays3;
  }
  totals = sums;
}

template <typename T>
RTLYNX_INLINE void sparsify_step(const T* __restrict x, T* __restrict kept, int channels,
                                 Sums& sums) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int16_t>;
  float wide[kStepChannels];
  std::int32_t stays[kStepChannels];
  for (int k = 0; k < channels; ++k) wide[k] = to_float(x[k]);
  select_groups(wide, stays, channels / kGroup, sums);
  for (int k = 0; k < channels; ++k) {
    kept[k] = std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(x[k]) & stays[k]));
  }
}

// The steps are too long for out-of-order execution to look far ahead, and hardware prefetch ends
// at each page: asking early is worth 1.5x beyond the caches. Any address may be prefetched, so the
// end of the matrix needs no care; integers, as a pointer may not leave its array.
template <typename T>
RTLYNX_INLINE void prefetch_step(const T* x, const T* kept) {
  constexpr std::uintptr_t kAhead = 2048;
  constexpr std::uintptr_t kLine = 64;
  for (std::uintptr_t byte = 0; byte < kStepChannels * sizeof(T); byte += kLine) {
    const std::uintptr_t offset = kAhead + byte;
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(x) + offset));
    __builtin_prefetch(reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(kept) + offset), 1);
  }
}

// x [K] -> kept [K]; returns the scale.
template <typename T>
RTLYNX_INLINE float sparsify_row(const T* x, T* kept, std::int64_t channels) {
  Sums sums;
  std::int64_t k = 0;
  for (; k + kStepChannels <= channels; k += kStepChannels) {
    prefetch_step(x + k, kept + k);
    sparsify_step(x + k, kept + k, kStepChannels, sums);
  }
  if (k < channels) sparsify_step(x + k, kept + k, static_cast<int>(channels - k), sums);

  const float kept_sum = std::accumulate(std::begin(sums.kept), std::end(sums.kept), 0.0f);
  const float dropped_sum = std::accumulate(std::begin(sums.dropped), std::end(sums.dropped), 0.0f);
  // Squares of unscaled elements are good unless they came near either end of the range of fp32;
  // such tokens, all-zero ones and those with a NaN or an infinity take the careful way.
  const bool in_range = kept_sum > 0x1p-60f && kept_sum < 0x1p100f;
  return in_range ? std::sqrt(1.0f + dropped_sum / kept_sum) : token_scale(x, channels);
}

template <typename T>
float sparsify_row_baseline(const T* x, T* kept, std::int64_t channels) {
  return sparsify_row(x, kept, channels);
}

#if defined(__x86_64__)
template <typename T>
__attribute__((target("avx2"))) float sparsify_row_avx2(const T* x, T* kept,
                                                        std::int64_t channels) {
  return sparsify_row(x, kept, channels);
}
#endif

// One binary serves every x86-64.
template <typename T>
auto choose_sparsify_row() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return &sparsify_row_avx2<T>;
#endif
  return &sparsify_row_baseline<T>;
}

}  // namespace

void sparsify24(ConstMatrixView x, MatrixView kept, float* scale) {
  check_matrix("sparsify24", "X", x);
  check_channels("sparsify24", x.columns, kGroup);
  check_matrix("sparsify24", "X~", kept, x.rows, x.columns, x.dtype);
  with_element_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    const auto sparsify_token = choose_sparsify_row<T>();
    for (std::int64_t m = 0; m < x.rows; ++m) {
      const float s = sparsify_token(row_of<T>(x, m), row_of<T>(kept, m), x.columns);
      if (scale != nullptr) scale[m] = s;
    }
  });
}

}  // namespace rtlynx
