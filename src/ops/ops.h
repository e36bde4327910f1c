// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

/// The operators for C++: each goes through torch's dispatcher, like torch.ops.rtlynx in Python.
///
/// Selection, s and the order of rounding are those of rtlynx/pack24.h, rtlynx/product24.h and
/// rtlynx/rows.h. All tensors of a call share one device and, but for moments, scales and biases in
/// fp32, one type: f32, f16 or bf16. Any strides are taken; results are contiguous and share no
/// memory with the arguments; asking one for a gradient throws. GEMMs follow torch's settings for
/// fp32 (TF32 and the like); autocast changes nothing. Invalid arguments throw rtlynx::Error.
///
/// On a GPU of compute capability 8.0 or later f16 and bf16 run on the Sparse Tensor Cores, within
/// the limits of rtlynx/limits.h; arguments whose rows do not begin on 16 bytes are copied. f32,
/// and the CPU, write the zeros out and multiply them: right, and not fast.
namespace rtlynx::ops {

using OptionalTensor = std::optional<at::Tensor>;

/// They do nothing. Calling them keeps the linker from dropping what registers the operators and
/// the refusal of their gradients.
void keep_operators();
void keep_registered();

/// The operator of this name, found once.
template <typename Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  keep_registered();
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

/// x [.., K], K divisible by 4 -> kept [.., K] with zeros where a channel was dropped, and scale
/// [..] fp32, ||x|| / ||x~|| per token, or ones without `norm`.
inline std::tuple<at::Tensor, at::Tensor> sparsify24(const at::Tensor& x, bool norm = true) {
  static const auto op =
      find_op<std::tuple<at::Tensor, at::Tensor>(const at::Tensor&, bool)>("rtlynx::sparsify24");
  return op.call(x, norm);
}

/// An input of Linears: z = transform(producer(x)), and what is packed of it.
struct PackOptions {
  OptionalTensor tail;            // [.., K2]: the last channels of the input
  std::string producer = "none";  // none, gelu, swiglu, layer_norm, rms_norm
  OptionalTensor up;              // swiglu: [.., K]
  OptionalTensor moments;         // norms: [.., 2] fp32, mean and rate; else they are computed
  OptionalTensor weight;          // norms: [K]
  OptionalTensor scale, shift;    // norms: [G, K], z = n * weight * (1 + scale) + shift
  double eps = 1e-6;              // norms without moments
  OptionalTensor transform;       // [K / g, g outputs, g inputs], g 16, 64 or 128
  OptionalTensor down;            // [R, K]: L_down transposed of all layers, one below the other;
                                  // reads the input before the transform
  bool norm = true;               // whether s restores the token's norm
  /// Kept values leave as e4m3, for weights of e4m3 of which a 1 stands for this, and ups in the
  /// same unit. A GPU of compute capability 9.0, or the CPU.
  std::optional<double> e4m3_unit;
  double transform_gain = 1.0;  // with it: the largest Euclidean norm of a row of the transform
  /// With it, not for norms: [..] fp32, upper bounds of the magnitudes of x (of swiglu: of x * up)
  /// and of the tail, as product_out gives them. What has none is read once more.
  OptionalTensor limit, tail_limit;
};

/// The packed input. What `operand` holds is the operators' affair.
struct Packed {
  at::Tensor operand;
  at::Tensor scale;  // [..] fp32: s, and of e4m3 the units
  at::Tensor low;    // H / s [.., R], of e4m3 in the unit of the kept values
};

/// x [.., K - K2], K divisible by 16.
inline Packed pack(const at::Tensor& x, const PackOptions& options = {}) {
  using Result = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
  static const auto op = find_op<Result(
      const at::Tensor&, const OptionalTensor&, std::string_view, const OptionalTensor&,
      const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
      double, const OptionalTensor&, const OptionalTensor&, bool, std::optional<double>, double,
      const OptionalTensor&, const OptionalTensor&)>("rtlynx::pack");
  auto [operand, scale, low] = op.call(
      x, options.tail, options.producer, options.up, options.moments, options.weight, options.scale,
      options.shift, options.eps, options.transform, options.down, options.norm, options.e4m3_unit,
      options.transform_gain, options.limit, options.tail_limit);
  return {std::move(operand), std::move(scale), std::move(low)};
}

enum class Activation : std::int64_t { none = 0, gelu = 1 };  // gelu: the tanh formula

/// One Linear on a packed input: residual + gate * act(s (z~ W^T + (H / s) up^T) + bias).
struct ProductLayer {
  at::Tensor weight;  // [N, K], of the type of x, or e4m3 if the values are
  at::Tensor up;      // [N, r], with one of every layer or of none
  at::Tensor bias;    // [N], of the type of weight, or fp32
  Activation activation = Activation::none;
  at::Tensor gate;             // [G, N]
  at::Tensor residual;         // [.., N]
  std::int64_t low_start = 0;  // the first of the r columns of low
};

/// The results of one to four layers, [.., N_i].
std::vector<at::Tensor> product(const Packed& packed, const std::vector<ProductLayer>& layers);

/// The same into `out`, whose rows may lie apart. `largest`: none at all, or for each layer [..]
/// fp32, raised to the largest magnitude of each token's results, or a tensor without elements.
void product_out(const Packed& packed, const std::vector<ProductLayer>& layers,
                 const std::vector<at::Tensor>& out, const std::vector<at::Tensor>& largest = {});

/// A 2:4 weight [N, K] as weight_product reads it: at most two of every four channels are not zero;
/// of others the largest two stay. Bytes for the Sparse Tensor Cores where they run such products,
/// a GPU of compute capability 9.0, else the weight itself.
inline at::Tensor pack_weight(const at::Tensor& weight) {
  static const auto op = find_op<at::Tensor(const at::Tensor&)>("rtlynx::pack_weight");
  return op.call(weight);
}

/// One Linear with a 2:4 weight W~ on a dense input:
/// residual + gate * act(x W~^T + low up^T + bias).
struct WeightLayer {
  at::Tensor weight;         // by pack_weight()
  std::int64_t outputs = 0;  // N
  at::Tensor up;             // [N, r], with one of every layer or of none
  at::Tensor bias;           // [N], of the type of x, or fp32
  Activation activation = Activation::none;
  at::Tensor gate;             // [G, N]
  at::Tensor residual;         // [.., N]
  std::int64_t low_start = 0;  // the first of the r columns of low
};

/// The results of one to four layers, [.., N_i], of x [.., K] and low [.., R], its product with all
/// downs. N divisible by 8, K and r by 16, r at most 128.
std::vector<at::Tensor> weight_product(const at::Tensor& x, const at::Tensor& low,
                                       const std::vector<WeightLayer>& layers);

/// The same into `out`, whose rows may lie apart.
void weight_product_out(const at::Tensor& x, const at::Tensor& low,
                        const std::vector<WeightLayer>& layers, const std::vector<at::Tensor>& out);

/// What multiplies x in linear24.
struct Linear24Weights {
  at::Tensor weight;         // [N, K]
  OptionalTensor bias;       // [N]
  OptionalTensor lora_down;  // [R, K], with lora_up or not at all
  OptionalTensor lora_up;    // [N, R]
};

/// x [.., K] -> [.., N]: pack and product of one layer.
inline at::Tensor linear24(const at::Tensor& x, const Linear24Weights& weights, bool norm = true) {
  static const auto op =
      find_op<at::Tensor(const at::Tensor&, const at::Tensor&, const OptionalTensor&,
                         const OptionalTensor&, const OptionalTensor&, bool)>("rtlynx::linear24");
  return op.call(x, weights.weight, weights.bias, weights.lora_down, weights.lora_up, norm);
}

/// h = x + gate * y, its moments [.., 2], and, if wanted, its norm, modulated: rtlynx/rows.h.
struct ResidualNormOptions {
  OptionalTensor y, gate;  // [.., N], [G, N]
  bool tanh_gate = false;
  OptionalTensor post_weight;  // [N]: y is RMS-normed first
  double post_eps = 1e-6;
  std::string norm = "layer";  // layer or rms
  double eps = 1e-6;
  OptionalTensor weight, scale, shift;  // [N], [G, N], [G, N]
  bool want_normed = false;
};
struct NormedRows {
  at::Tensor h, moments, normed;
};
inline NormedRows residual_norm(const at::Tensor& x, const ResidualNormOptions& options) {
  using Result = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
  static const auto op =
      find_op<Result(const at::Tensor&, const OptionalTensor&, const OptionalTensor&, bool,
                     const OptionalTensor&, double, std::string_view, double, const OptionalTensor&,
                     const OptionalTensor&, const OptionalTensor&, bool)>("rtlynx::residual_norm");
  auto [h, moments, normed] = op.call(
      x, options.y, options.gate, options.tanh_gate, options.post_weight, options.post_eps,
      options.norm, options.eps, options.weight, options.scale, options.shift, options.want_normed);
  return {std::move(h), std::move(moments), std::move(normed)};
}

/// Heads for joint attention: q and k RMS-normed and rotated, v joined.
struct HeadStreams {
  std::vector<at::Tensor> q, k, v;               // [B, S_i, heads * head_dim] each; v: or none
  std::vector<at::Tensor> q_weights, k_weights;  // [head_dim] each, or none
};
struct Heads {
  at::Tensor q, k, v;  // [B, S, heads * head_dim]; v [B, S, 0] if there were none
};
/// `rotation` [S, head_dim / 2, 2] fp32: cosine and sine.
Heads head_norm(const HeadStreams& streams, const OptionalTensor& rotation, std::int64_t head_dim,
                double eps = 1e-6);

/// silu(gate) * up, both [.., N], rounded once.
inline at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  static const auto op =
      find_op<at::Tensor(const at::Tensor&, const at::Tensor&)>("rtlynx::swiglu");
  return op.call(gate, up);
}

}  // namespace rtlynx::ops
