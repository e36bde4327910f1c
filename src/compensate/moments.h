// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/libtorch.h"

namespace rtlynx {

/// Sums over tokens of what the closed forms need of a layer's input X [n, K] and of what is
/// multiplied in its place, S [n, K]: s X~, or X~ without norm, in the transformed channels where
/// there is a transform.
///
/// Products are fp32 at full precision (never TF32, in which moments are not positive definite),
/// sums fp64: 24 K^2 bytes with S, 8 K^2 without, however many tokens are added. Statistics of
/// several runs add up: merge() of shards differs from one run over all only by fp64 rounding.
struct InputMoments {
  torch::Tensor xx;  // [K, K] fp64: X^T X
  torch::Tensor xs;  // [K, K] fp64: X^T S; undefined if only inputs were added
  torch::Tensor ss;  // [K, K] fp64: S^T S; likewise
  std::int64_t tokens = 0;

  std::int64_t channels() const { return xx.defined() ? xx.size(0) : 0; }

  /// x [..., K] of any floating type, and with it `selected`, of x's shape. A set of moments takes
  /// either always both or always inputs alone; the first call decides K and the device.
  void add(const torch::Tensor& x);
  void add(const torch::Tensor& x, const torch::Tensor& selected);

  /// Throws Error unless both hold the same sums for the same K.
  void merge(const InputMoments& other);

  /// X^T X / n [K, K] fp64. Throws Error before the first token.
  torch::Tensor second_moment() const;
};

/// Moments by input group (models/shared_input.h).
using GroupMoments = std::map<std::string, InputMoments>;

/// Throws Error, naming the input, for sums that are not finite.
void check_finite(const GroupMoments& moments);

/// "<group>.xx", ".xs", ".ss" and ".tokens", as a safetensors file holds them.
std::vector<std::pair<std::string, torch::Tensor>> named_tensors(const GroupMoments& moments);

/// The inverse. Throws Error, beginning with `where`, for a name that named_tensors does not give,
/// a missing sum, or one that is not square, fp64 and of its group's size.
GroupMoments moments_from_tensors(const std::map<std::string, torch::Tensor>& tensors,
                                  const std::string& where);

}  // namespace rtlynx
