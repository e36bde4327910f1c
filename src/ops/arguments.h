// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "ops/aten.h"
#include "rtlynx/matrix.h"
#include "rtlynx/pack24.h"
#include "rtlynx/product24.h"
#include "rtlynx/rows.h"

/// What the operators accept, the same on every device: each function here checks one operator's
/// arguments, throws Error naming what was required and what arrived, and returns them in the form
/// the kernels want.
namespace rtlynx::ops {

/// The results of the operators.
using Sparsified = std::tuple<Tensor, Tensor>;          // kept, scale
using Packed = std::tuple<Tensor, Tensor, Tensor>;      // operand, scale, low
using NormedRows = std::tuple<Tensor, Tensor, Tensor>;  // h, moments, normed
using Heads = std::tuple<Tensor, Tensor, Tensor>;       // q, k, v

/// "bf16 [2, 64] on cuda:1", for messages; "None" for a tensor that is none.
std::string describe(const Tensor& tensor);

/// The element type of a tensor that the kernels take. Throws Error for another.
DType dtype_of(std::string_view op, const Tensor& tensor);

/// A tensor [.., columns] as the matrix [rows, columns] it stands for. Rows of equal distance that
/// begin on `alignment` elements are taken as they lie; others are copied.
struct Matrix {
  Tensor tensor;
  std::vector<std::int64_t> leading;  // sizes of the dimensions before the last
  MatrixView view;
};
Matrix matrix_of(std::string_view op, const Tensor& tensor, std::int64_t alignment = 1);

/// The same of a tensor of e4m3, whose rows begin on as many bytes as those of 16-bit elements.
Matrix codes_of(std::string_view op, const Tensor& tensor, std::int64_t alignment);
bool is_e4m3(const Tensor& tensor);

/// `sizes` and one more dimension behind them.
std::vector<std::int64_t> with_last(std::vector<std::int64_t> sizes, std::int64_t last);

/// The arguments of `pack`, as they arrived.
struct PackTensors {
  Tensor x;                            // [.., K - tail's channels]
  std::optional<Tensor> tail;          // [.., further channels]
  std::string producer = "none";       // none, gelu, swiglu, layer_norm, rms_norm
  std::optional<Tensor> up;            // swiglu: [.., K]
  std::optional<Tensor> moments;       // norms: [.., 2] fp32, else they are computed
  std::optional<Tensor> weight;        // norms: [K]
  std::optional<Tensor> scale, shift;  // norms: [G, K], G images of equally many tokens
  double eps = 1e-6;
  std::optional<Tensor> transform;  // [K / block, block outputs, block inputs]
  std::optional<Tensor> down;       // [R, K]
  bool norm = true;
  std::optional<double> e4m3_unit;          // values leave as e4m3, for weights in this unit
  double transform_gain = 1.0;              // e4m3: rtlynx/pack24.h's code_factors
  std::optional<Tensor> limit, tail_limit;  // e4m3: [..] fp32, the same
  std::string_view op = "pack";             // whose arguments they are
};

/// The same, checked, and as the kernels take them.
struct PackArguments {
  Pack24 input;  // its moments are null where they have to be computed
  std::vector<std::int64_t> leading;
  std::vector<Tensor> held;  // what the views of `input` lie in
  std::optional<Norm> computes_moments;
  float eps = 1e-6f;

  std::int64_t tokens() const { return input.x.rows; }
  std::int64_t channels() const { return input.x.columns + input.tail.columns; }
};
PackArguments pack_arguments(const PackTensors& tensors, std::int64_t alignment);

/// The arguments of `product`. Lists of tensors have an entry for each weight, or none at all; an
/// entry without elements stands for nothing.
struct ProductTensors {
  Tensor operand, scale, low;
  std::vector<Tensor> weights;            // [N_i, K], element type or e4m3, as pack gave values
  std::vector<Tensor> ups;                // [N_i, r]
  std::vector<std::int64_t> low_starts;   // first column of low; none: one behind the other
  std::vector<Tensor> biases;             // [N_i], element type or fp32
  std::vector<std::int64_t> activations;  // 0: none, 1: GELU, the tanh formula
  std::vector<Tensor> gates;              // [G, N_i]
  std::vector<Tensor> residuals;          // [.., N_i]
  std::string_view op = "product";        // whose arguments they are
  std::vector<Tensor> largest = {};       // product_out: [..] fp32, raised

  std::size_t count() const { return weights.size(); }
  /// Entry i of one of the lists, if it is there.
  static std::optional<Tensor> entry(const std::vector<Tensor>& list, std::size_t i);
};

/// Everything but the operand and Y, for one weight after the other.
struct ProductArguments {
  std::vector<Product24> products;
  const float* scale = nullptr;  // [tokens]
  MatrixView low;                // [tokens, R]
  std::vector<Tensor> held;
  std::vector<std::int64_t> leading;
  std::int64_t tokens = 0;
  std::int64_t channels = 0;
};
ProductArguments product_arguments(const ProductTensors& tensors, std::int64_t channels,
                                   std::int64_t alignment);

/// Throws Error unless there is one of [.., N_i], of the type of the packed input, for every
/// weight.
void check_out(const ProductTensors& tensors, const ProductArguments& arguments,
               const std::vector<Tensor>& out);

/// Whether pack gives the operand of the Sparse Tensor Cores (rtlynx/operand24.h), as bytes; else
/// it gives X~ with its zeros. The fakes of python/rtlynx/_ops.py follow the same rule.
bool is_tiled(const Tensor& x, std::int64_t channels);

/// The arguments of residual_norm, head_norm and swiglu.
struct ResidualNormTensors {
  Tensor x;                                    // [.., N]
  std::optional<Tensor> y, gate, post_weight;  // [.., N], [G, N], [N]
  bool tanh_gate = false;
  double post_eps = 1e-6;
  std::string norm = "layer";  // layer or rms
  double eps = 1e-6;
  std::optional<Tensor> weight, scale, shift;  // [N], [G, N], [G, N]
  bool want_normed = false;
};
struct ResidualNormArguments {
  ResidualNorm problem;  // without its results
  std::vector<std::int64_t> leading;
  std::vector<Tensor> held;
};
ResidualNormArguments residual_norm_arguments(const ResidualNormTensors& tensors,
                                              std::int64_t alignment);

struct HeadNormTensors {
  std::vector<Tensor> q, k, v;  // of one stream or two: [B, S_i, heads * head_dim]; v: or none
  std::vector<Tensor> q_weights, k_weights;  // [head_dim] each, or none
  std::optional<Tensor> rotation;            // [S, head_dim / 2, 2] fp32
  std::int64_t head_dim = 0;
  double eps = 1e-6;
};
struct HeadNormArguments {
  HeadNorm problem;  // without its results
  std::int64_t images = 0;
  std::int64_t tokens = 0;  // of an image, all streams
  std::vector<Tensor> held;
};
HeadNormArguments head_norm_arguments(const HeadNormTensors& tensors, std::int64_t alignment);

struct SwigluArguments {
  Swiglu problem;  // without its result
  std::vector<std::int64_t> leading;
  std::vector<Tensor> held;
};
SwigluArguments swiglu_arguments(const Tensor& gate, const Tensor& up, std::int64_t alignment);

}  // namespace rtlynx::ops
