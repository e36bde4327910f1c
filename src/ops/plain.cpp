// SPDX-License-Identifier: Apache-2.0
#include "ops/plain.h"

#include <array>
#include <utility>

#include "base/error.h"
#include "rtlynx/pack24.h"

namespace rtlynx::ops::plain {
namespace {

using torch::stable::unsqueeze;
using torch::stable::view;

Sparsified sparsify(const Tensor& z, bool norm) {
  std::array<StableIValue, 2> stack{torch::stable::detail::from(z),
                                    torch::stable::detail::from(norm)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("rtlynx::sparsify24", "", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

/// A [M, K] B^T for B [N, K], in fp32. The out= forms are those that autocast leaves alone.
Tensor multiply_fp32(const Tensor& a, const Tensor& b) {
  const std::int64_t rows = a.size(0), columns = b.size(0);
  const Tensor result = empty_like_device(a, {rows, columns}, ScalarType::Float);
  const bool narrow_on_gpu = a.is_cuda() && a.scalar_type() != ScalarType::Float;
  if (narrow_on_gpu) {
    return call_aten("aten::mm", "dtype_out", a, with_swapped(b, 0, 1), ScalarType::Float, result);
  }
  return call_aten("aten::mm", "out", to_float(a), with_swapped(to_float(b), 0, 1), result);
}

/// [.., columns] as [rows, columns].
Tensor as_matrix(const Tensor& tensor) {
  const std::int64_t columns = tensor.size(tensor.dim() - 1);
  return torch::stable::reshape(tensor, {-1, columns});
}

/// x [M, K] behind LayerNorm or RMSNorm and modulation, fp32. G images of M / G tokens.
Tensor normed(const PackTensors& tensors, const Tensor& x) {
  Tensor centred = x, rate = x;
  if (tensors.moments) {
    const Tensor moments = view(torch::stable::contiguous(*tensors.moments), {-1, 2});
    centred = minus(x, columns_of(moments, 0, 1));
    rate = columns_of(moments, 1, 1);
  } else {
    const std::vector<std::int64_t> last{1};
    const auto mean = [&](const Tensor& of) {
      return call_aten("aten::mean", "dim", of, std::optional(last), true,
                       std::optional<ScalarType>());
    };
    if (tensors.producer == "layer_norm") centred = minus(x, mean(x));
    const Tensor squares = mean(times(centred, centred));
    Tensor eps = empty_like_device(x, {1}, ScalarType::Float);
    rate = call_aten("aten::rsqrt", "", plus(squares, torch::stable::fill_(eps, tensors.eps)));
  }
  Tensor z = times(centred, rate);
  if (tensors.weight) z = times(z, to_float(*tensors.weight));
  const auto per_image = [&](const Tensor& vectors) {  // [G, K] -> [G, 1, K]
    return unsqueeze(to_float(as_matrix(vectors)), 1);
  };
  const auto by_image = [&](const Tensor& vectors) {
    return view(z, {vectors.size(0), -1, z.size(1)});
  };
  if (tensors.scale) {
    const Tensor scale = per_image(*tensors.scale);
    z = plus(by_image(scale), times(by_image(scale), scale));
    z = view(z, {-1, z.size(2)});
  }
  if (tensors.shift) {
    const Tensor shift = per_image(*tensors.shift);
    z = view(plus(by_image(shift), shift), {-1, z.size(1)});
  }
  return z;
}

/// The input behind its producer, [M, K], of the type of x.
Tensor produced(const PackTensors& tensors) {
  const ScalarType type = tensors.x.scalar_type();
  Tensor x = as_matrix(tensors.x);
  if (tensors.tail) {
    const std::vector<Tensor> parts{x, as_matrix(*tensors.tail)};
    x = call_aten("aten::cat", "", parts, std::int64_t{1});
  }
  if (tensors.producer == "none") return torch::stable::contiguous(x);
  const Tensor wide = to_float(torch::stable::contiguous(x));
  if (tensors.producer == "gelu") return torch::stable::to(gelu_tanh(wide), type);
  if (tensors.producer == "swiglu") {
    const Tensor gate = call_aten("aten::silu", "", wide);
    return torch::stable::to(times(gate, to_float(as_matrix(*tensors.up))), type);
  }
  return torch::stable::to(normed(tensors, wide), type);
}

/// z A [M, K], of the type of z; transform [blocks, outputs, inputs].
Tensor transformed(const Tensor& z, const Tensor& transform) {
  const std::int64_t blocks = transform.size(0), block = transform.size(1);
  const Tensor inputs =
      with_swapped(view(to_float(z), {-1, blocks, block}), 0, 1);  // [blocks, M, block]
  const Tensor outputs =
      call_aten("aten::bmm", "out", inputs, with_swapped(to_float(transform), 1, 2),
                empty_like_device(z, {blocks, z.size(0), block}, ScalarType::Float));
  const Tensor joined = torch::stable::contiguous(with_swapped(outputs, 0, 1));
  return torch::stable::to(view(joined, {-1, blocks * block}), z.scalar_type());
}

/// act(s * acc + bias), then gate and residual, fp32 [M, N].
Tensor finished(const ProductTensors& tensors, std::size_t i, const Tensor& acc) {
  const Tensor scale = view(torch::stable::contiguous(tensors.scale), {-1, 1});
  Tensor y = call_aten("aten::mul_", "Tensor", acc, scale);
  if (const Tensor* bias = entry(tensors.biases, i)) {
    y = plus(y, to_float(*bias));
  }
  if (!tensors.activations.empty() && tensors.activations[i] == 1) y = gelu_tanh(y);
  if (const Tensor* gate = entry(tensors.gates, i)) {
    const Tensor rows = unsqueeze(to_float(as_matrix(*gate)), 1);  // [G, 1, N]
    const Tensor images = view(y, {rows.size(0), -1, y.size(1)});
    y = view(times(images, rows), {-1, y.size(1)});
  }
  if (const Tensor* residual = entry(tensors.residuals, i)) {
    y = plus(y, to_float(as_matrix(*residual)));
  }
  return y;
}

/// largest [..] is raised to the largest magnitude of each row of y [M, N]; NaN stays NaN.
void raise(const Tensor& largest, const Tensor& y) {
  const std::vector<std::int64_t> last{1};
  const Tensor own =
      call_aten("aten::amax", "", call_aten("aten::abs", "", to_float(y)), last, false);
  Tensor rows = view(largest, {-1});
  torch::stable::copy_(rows, call_aten("aten::maximum", "", rows, own));
}

/// Factors [M] of an input on the CPU: rtlynx/pack24.h's code_factors.
Tensor factors_of(const PackTensors& tensors, const PackArguments& arguments) {
  const Tensor factors = empty_like_device(tensors.x, {arguments.tokens()}, ScalarType::Float);
  Pack24 input = arguments.input;
  static constexpr float kAny[2] = {};  // a norm's bound is of its modulation alone
  if (arguments.computes_moments) input.moments = kAny;
  code_factors(input, static_cast<float>(tensors.transform_gain),
               factors.mutable_data_ptr<float>());
  return factors;
}

}  // namespace

Packed pack(const PackTensors& tensors) {
  const PackArguments arguments = pack_arguments(tensors, /*alignment=*/1);
  const Tensor input = produced(tensors);
  const Tensor z = tensors.transform ? transformed(input, *tensors.transform) : input;
  auto [kept, scale] = sparsify(z, tensors.norm);
  if (tensors.e4m3_unit) {
    const Tensor factors = factors_of(tensors, arguments);
    // No product leaves the range, beyond which torch gives NaN.
    kept =
        torch::stable::to(times(to_float(kept), view(factors, {-1, 1})), ScalarType::Float8_e4m3fn);
    scale = over(scale, view(factors, scale.sizes().vec()));
  }
  const ScalarType type = tensors.x.scalar_type();
  const std::int64_t low_columns = arguments.input.down.rows;
  Tensor low = empty_like_device(z, {arguments.tokens(), low_columns}, type);
  if (low_columns > 0) {
    const Tensor h = multiply_fp32(input, *tensors.down);
    low = torch::stable::to(over(h, view(scale, {-1, 1})), type);
  }
  if (tensors.e4m3_unit) {
    const Tensor unit = empty_like_device(scale, {1}, ScalarType::Float);
    scale = times(scale, torch::stable::fill_(unit, *tensors.e4m3_unit));
  }
  return {view(kept, with_last(arguments.leading, arguments.channels())),
          view(scale, arguments.leading), view(low, with_last(arguments.leading, low_columns))};
}

std::vector<Tensor> product(const ProductTensors& tensors, const std::vector<Tensor>* out) {
  const Tensor& operand = tensors.operand;
  const std::int64_t channels = operand.dim() > 0 ? operand.size(operand.dim() - 1) : 0;
  const ProductArguments arguments = product_arguments(tensors, channels, /*alignment=*/1);
  const ScalarType type = tensors.low.scalar_type();
  const ScalarType value_type = is_e4m3(tensors.weights.front()) ? ScalarType::Float8_e4m3fn : type;
  if (operand.scalar_type() != value_type ||
      operand.sizes().vec() != with_last(arguments.leading, channels)) {
    fail(tensors.op, "an operand that pack gave with scale and low", describe(operand));
  }
  if (out != nullptr) check_out(tensors, arguments, *out);
  const Tensor kept = as_matrix(operand);
  std::vector<Tensor> results;
  for (std::size_t i = 0; i < tensors.count(); ++i) {
    Tensor acc = multiply_fp32(kept, tensors.weights[i]);
    const Product24& part = arguments.products[i];
    if (part.up.columns > 0) {
      const Tensor low = columns_of(as_matrix(tensors.low), part.low_column, part.up.columns);
      acc = plus(acc, multiply_fp32(torch::stable::contiguous(low), tensors.ups[i]));
    }
    const Tensor y = torch::stable::to(finished(tensors, i, acc), type);
    if (const Tensor* largest = entry(tensors.largest, i)) raise(*largest, y);
    results.push_back(view(y, with_last(arguments.leading, tensors.weights[i].size(0))));
  }
  if (out == nullptr) return results;
  for (std::size_t i = 0; i < results.size(); ++i) {
    Tensor target = (*out)[i];
    torch::stable::copy_(target, results[i]);
  }
  return {};
}

Tensor pack_weight(const Tensor& weight) {
  return std::get<0>(pack({.x = weight, .norm = false, .op = "pack_weight"}));
}

std::vector<Tensor> weight_product(const ProductTensors& tensors, const std::vector<Tensor>* out) {
  const Tensor& x = tensors.operand;
  const Tensor ones =
      torch::stable::fill_(empty_like_device(x, leading_of(x), ScalarType::Float), 1.0);
  return product(
      {x, ones, tensors.low, tensors.weights, tensors.ups, tensors.low_starts, tensors.biases,
       tensors.activations, tensors.gates, tensors.residuals, tensors.op},
      out);
}

}  // namespace rtlynx::ops::plain
