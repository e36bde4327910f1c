// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <tuple>

/// The operators for C++: each goes through torch's dispatcher, like torch.ops.rtlynx in Python.
///
/// Selection, s and the order of rounding are those of rtlynx/pack24.h and rtlynx/linear24.h. All
/// tensors of a call share one device and, but for metadata and scale, one type: f32, f16 or bf16.
/// Any strides are taken; results are contiguous, share no memory with the arguments and pass no
/// gradient back. GEMMs follow torch's settings for fp32 (TF32 and the like); autocast changes
/// nothing. Invalid arguments throw rtlynx::Error.
///
/// On a GPU of compute capability 8.0 or later linear24 runs on the Sparse Tensor Cores for f16 and
/// bf16, K divisible by 16, N by 8 and a rank divisible by 16 up to 128, and copies arguments that
/// are not contiguous and 16-byte aligned. Elsewhere it writes the zeros out and multiplies them:
/// right, and not fast. pack24 and unpack24 take f16 and bf16 there.
namespace rtlynx::ops {

/// Does nothing. Calling it keeps the linker from dropping the library that registers the
/// operators.
void keep_registered();

/// The operator of this name, found once.
template <typename Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  keep_registered();
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

/// x [.., K], K divisible by 4 -> kept [.., K] with zeros where a channel was dropped, and scale
/// [M] fp32 (M: the product of the leading dimensions), ||x|| / ||x~|| per token, or ones without
/// `norm`.
inline std::tuple<at::Tensor, at::Tensor> sparsify24(const at::Tensor& x, bool norm = true) {
  static const auto op =
      find_op<std::tuple<at::Tensor, at::Tensor>(const at::Tensor&, bool)>("rtlynx::sparsify24");
  return op.call(x, norm);
}

/// x [.., K], K divisible by 16 -> values [.., K/2], metadata [.., K/16] int16 (the bits of
/// unsigned words), scale [M] fp32.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> pack24(const at::Tensor& x) {
  static const auto op =
      find_op<std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor&)>("rtlynx::pack24");
  return op.call(x);
}

/// The inverse of pack24: kept [.., K]. Metadata that pack24 does not give is an error on the CPU;
/// on a GPU, where checking would be waiting, it gives wrong values.
inline at::Tensor unpack24(const at::Tensor& values, const at::Tensor& metadata) {
  static const auto op =
      find_op<at::Tensor(const at::Tensor&, const at::Tensor&)>("rtlynx::unpack24");
  return op.call(values, metadata);
}

/// What multiplies x in linear24.
struct Linear24Weights {
  at::Tensor weight;                    // [N, K]
  std::optional<at::Tensor> bias;       // [N]
  std::optional<at::Tensor> lora_down;  // [R, K], with lora_up or not at all
  std::optional<at::Tensor> lora_up;    // [N, R]
};

/// x [.., K], K divisible by 4 -> [.., N]: s * (x~ W^T + (H / s) lora_up^T) + bias with
/// H = x lora_down^T.
inline at::Tensor linear24(const at::Tensor& x, const Linear24Weights& weights, bool norm = true) {
  using Optional = std::optional<at::Tensor>;
  static const auto op =
      find_op<at::Tensor(const at::Tensor&, const at::Tensor&, const Optional&, const Optional&,
                         const Optional&, bool)>("rtlynx::linear24");
  return op.call(x, weights.weight, weights.bias, weights.lora_down, weights.lora_up, norm);
}

/// For speed: linear24, but on a GPU where a dense GEMM is known to be faster (few tokens, small
/// layers), or no sparse kernel takes the arguments, x W^T + bias. That is the layer without
/// sparsity, so the norm and the low rank, which make up for sparsity, are left out.
inline at::Tensor linear24_auto(const at::Tensor& x, const Linear24Weights& weights,
                                bool norm = true) {
  using Optional = std::optional<at::Tensor>;
  static const auto op =
      find_op<at::Tensor(const at::Tensor&, const at::Tensor&, const Optional&, const Optional&,
                         const Optional&, bool)>("rtlynx::linear24_auto");
  return op.call(x, weights.weight, weights.bias, weights.lora_down, weights.lora_up, norm);
}

}  // namespace rtlynx::ops
