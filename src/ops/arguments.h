// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
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

/// The operators' arguments, which they take by reference: a copy of each costs more than its
/// check.
using OptionalTensor = std::optional<Tensor>;
using Tensors = std::vector<Tensor>;
using Integers = std::vector<std::int64_t>;

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
  MatrixView view;
  std::optional<Tensor> copy;  // what the view lies in, if not in the tensor itself
};
Matrix matrix_of(std::string_view op, const Tensor& tensor, std::int64_t alignment = 1);

bool is_e4m3(const Tensor& tensor);

/// The sizes of the dimensions before the last.
std::vector<std::int64_t> leading_of(const Tensor& tensor);

/// `sizes` and one more dimension behind them.
std::vector<std::int64_t> with_last(std::vector<std::int64_t> sizes, std::int64_t last);

/// The arguments of `pack`, as they arrived, where they lie; null: not given.
struct PackTensors {
  const Tensor& x;                     // [.., K - tail's channels]
  const Tensor* tail = nullptr;        // [.., further channels]
  std::string_view producer = "none";  // none, gelu, swiglu, layer_norm, rms_norm
  const Tensor* up = nullptr;          // swiglu: [.., K]
  const Tensor* moments = nullptr;     // norms: [.., 2] fp32, else they are computed
  const Tensor* weight = nullptr;      // norms: [K]
  const Tensor* scale = nullptr;       // norms: [G, K], G images of equally many tokens
  const Tensor* shift = nullptr;       // norms: [G, K]
  double eps = 1e-6;
  const Tensor* transform = nullptr;  // [K / block, block outputs, block inputs]
  const Tensor* down = nullptr;       // [R, K]
  bool norm = true;
  std::optional<double> e4m3_unit = {};  // values leave as e4m3, for weights in this unit
  double transform_gain = 1.0;           // e4m3: rtlynx/pack24.h's code_factors
  const Tensor* limit = nullptr;         // e4m3: [..] fp32, the same
  const Tensor* tail_limit = nullptr;    // e4m3: [..] fp32, the same
  std::string_view op = "pack";          // whose arguments they are
};

/// An optional argument, where it lies.
inline const Tensor* pointer_to(const std::optional<Tensor>& tensor) {
  return tensor ? &*tensor : nullptr;
}

/// The same, checked, and as the kernels take them.
struct PackArguments {
  Pack24 input;  // its moments are null where they have to be computed
  std::vector<std::int64_t> leading;
  std::vector<Tensor> held;  // copies that the views of `input` lie in
  std::optional<Norm> computes_moments;
  float eps = 1e-6f;

  std::int64_t tokens() const { return input.x.rows; }
  std::int64_t channels() const { return input.x.columns + input.tail.columns; }
};
PackArguments pack_arguments(const PackTensors& tensors, std::int64_t alignment);

/// The arguments of `product`, where they lie. Lists of tensors have an entry for each weight, or
/// none at all; an entry without elements stands for nothing.
struct ProductTensors {
  const Tensor &operand, &scale, &low;
  std::span<const Tensor> weights;                // [N_i, K], element type or e4m3, as pack gave
  std::span<const Tensor> ups = {};               // [N_i, r]
  std::span<const std::int64_t> low_starts = {};  // first column of low; none: one behind the other
  std::span<const Tensor> biases = {};            // [N_i], element type or fp32
  std::span<const std::int64_t> activations = {};  // 0: none, 1: GELU, the tanh formula
  std::span<const Tensor> gates = {};              // [G, N_i]
  std::span<const Tensor> residuals = {};          // [.., N_i]
  std::string_view op = "product";                 // whose arguments they are
  std::span<const Tensor> largest = {};            // product_out: [..] fp32, raised

  std::size_t count() const { return weights.size(); }
};

/// Entry i of a list, or null where there is none.
const Tensor* entry(std::span<const Tensor> list, std::size_t i);

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

/// The same for weights that pack_weight packed: `tensors.operand` is the dense input, its scale is
/// not looked at, `tensors.weights` are bytes. Of each Product24 the weight describes W [N, K]; its
/// data is the packed one.
ProductArguments weight_product_arguments(const ProductTensors& tensors,
                                          std::span<const std::int64_t> outputs,
                                          std::int64_t alignment);

/// Throws Error unless there is one of [.., N_i], of the type of the packed input, for every
/// weight.
void check_out(const ProductTensors& tensors, const ProductArguments& arguments,
               std::span<const Tensor> out);

/// Whether pack gives the operand of the Sparse Tensor Cores (rtlynx/operand24.h), as bytes; else
/// it gives X~ with its zeros. The fakes of python/rtlynx/_ops.py follow the same rule.
bool is_tiled(const Tensor& x, std::int64_t channels);

/// The arguments of residual_norm, head_norm and swiglu.
struct ResidualNormTensors {
  const Tensor& x;                       // [.., N]
  const Tensor *y, *gate, *post_weight;  // [.., N], [G, N], [N]; null: none
  bool tanh_gate = false;
  double post_eps = 1e-6;
  std::string_view norm = "layer";  // layer or rms
  double eps = 1e-6;
  const Tensor *weight, *scale, *shift;  // [N], [G, N], [G, N]; null: none
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
  std::span<const Tensor> q, k, v;  // of one stream or two: [B, S_i, heads * head_dim]; v: or none
  std::span<const Tensor> q_weights, k_weights;  // [head_dim] each, or none
  const Tensor* rotation = nullptr;              // [S, head_dim / 2, 2] fp32
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
