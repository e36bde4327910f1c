// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/error.h"
#include "kernels/spec/arguments.h"
#include "ops/implementations.h"
#include "ops/take.h"
#include "rtlynx/limits.h"
#include "rtlynx/operand24.h"

namespace rtlynx::ops {
namespace {

void check_lists(const ProductTensors& tensors) {
  const std::string_view op = tensors.op;
  const std::size_t count = tensors.count();
  if (count < 1 || count > kMaxProducts) {
    fail(op, "1 to " + std::to_string(kMaxProducts) + " weights", std::to_string(count));
  }
  const auto check = [&](std::string_view name, std::size_t size) {
    if (size == 0 || size == count) return;
    fail(op, std::string(name) + " for none or all of " + std::to_string(count) + " weights",
         std::to_string(size));
  };
  check("ups", tensors.ups.size());
  check("low_starts", tensors.low_starts.size());
  check("biases", tensors.biases.size());
  check("activations", tensors.activations.size());
  check("gates", tensors.gates.size());
  check("residuals", tensors.residuals.size());
  check("largest", tensors.largest.size());
}

void take_bias(const Reference& like, const Tensor* bias, Product24& product,
               std::vector<Tensor>& held) {
  if (bias == nullptr) return;
  const std::int64_t outputs = product.weight.rows;
  if (TypeAndPlace(*bias).type != aoti_torch_dtype_float32()) {
    product.bias_dtype = like.dtype;
    product.bias = take_vector(like, "bias", bias, outputs, held);
    return;
  }
  require_fp32(like, "bias", *bias);
  if (bias->dim() != 1 || bias->size(0) != outputs) {
    fail(like.op, "a bias [" + std::to_string(outputs) + "]", describe(*bias));
  }
  product.bias = take_numbers(like, *bias, held);
}

ConstMatrixView take_weight(const Reference& like, const Tensor& weight,
                            std::vector<Tensor>& held) {
  if (weight.dim() != 2 || weight.numel() == 0) {
    fail(like.op, "a weight [N, K], N and K at least 1", describe(weight));
  }
  if (!is_e4m3(weight)) return take(like, "weight", &weight, held);
  if (!TypeAndPlace(weight).same_place(like.place)) {
    fail(like.op, "a weight on " + device_name(like.tensor), describe(weight));
  }
  return take_codes(like, weight, held);
}

Activation activation_of(std::string_view op, std::int64_t code) {
  if (code == 0) return Activation::none;
  if (code == 1) return Activation::gelu;
  fail(op, "an activation of 0 (none) or 1 (GELU)", std::to_string(code));
}

/// Scale and low, as pack gave them for so many tokens.
PackedShape take_packed(const Reference& like, const ProductTensors& tensors,
                        ProductArguments& result) {
  require_fp32(like, "scale", tensors.scale);
  if (!TypeAndPlace(tensors.operand).same_place(like.place)) {
    fail(like.op, "an operand on " + device_name(tensors.low), describe(tensors.operand));
  }
  const auto low_sizes = tensors.low.sizes();
  if (low_sizes.size() == 0 || !std::equal(low_sizes.begin(), low_sizes.end() - 1,
                                           result.leading.begin(), result.leading.end())) {
    fail(like.op, "a low of the same tokens as scale " + shape_text(result.leading),
         describe(tensors.low));
  }
  result.scale = take_numbers(like, tensors.scale, result.held);
  result.low = take(like, "low", &tensors.low, result.held);
  return {.tokens = result.tokens,
          .channels = result.channels,
          .low = result.low,
          .dtype = like.dtype,
          .value_dtype = is_e4m3(tensors.weights.front()) ? DType::e4m3 : like.dtype};
}

/// It is written to: a copy would not do.
float* take_largest(const Reference& like, const Tensor* largest, const ProductArguments& result) {
  if (largest == nullptr) return nullptr;
  require_fp32(like, "largest", *largest);
  if (largest->numel() != result.tokens || !largest->is_contiguous()) {
    fail(like.op, "a contiguous largest of " + std::to_string(result.tokens) + " tokens",
         describe(*largest));
  }
  return largest->mutable_data_ptr<float>();
}

/// All but scale and low, for one weight after the other. `weight_of(i)`: its view.
template <typename WeightOf>
void take_layers(const Reference& like, const ProductTensors& tensors, const PackedShape& packed,
                 ProductArguments& result, WeightOf weight_of) {
  result.products.reserve(tensors.count());
  std::int64_t next_column = 0;
  for (std::size_t i = 0; i < tensors.count(); ++i) {
    Product24& product = result.products.emplace_back();
    product.weight = weight_of(i);
    product.up = take(like, "up", entry(tensors.ups, i), result.held);
    product.low_column = tensors.low_starts.empty() ? next_column : tensors.low_starts[i];
    next_column = product.low_column + product.up.columns;
    take_bias(like, entry(tensors.biases, i), product, result.held);
    product.largest = take_largest(like, entry(tensors.largest, i), result);
    if (!tensors.activations.empty()) {
      product.activation = activation_of(like.op, tensors.activations[i]);
    }
    product.gate = take(like, "gate", entry(tensors.gates, i), result.held);
    settle_images(like.op, "gate", product.gate, result.tokens, product.image_tokens);
    product.residual = take(like, "residual", entry(tensors.residuals, i), result.held);
    Product24 checked = product;
    checked.y = {const_cast<void*>(product.weight.data), packed.dtype, packed.tokens,
                 product.weight.rows, product.weight.rows};
    check_product24(like.op, packed, checked);
  }
}

}  // namespace

const Tensor* entry(std::span<const Tensor> list, std::size_t i) {
  return i < list.size() && list[i].numel() > 0 ? &list[i] : nullptr;
}

ProductArguments product_arguments(const ProductTensors& tensors, std::int64_t channels,
                                   std::int64_t alignment) {
  check_lists(tensors);
  const Reference like(tensors.op, tensors.low, alignment);
  ProductArguments result{.leading = tensors.scale.sizes().vec(), .channels = channels};
  result.tokens = product_of(result.leading);
  const PackedShape packed = take_packed(like, tensors, result);
  take_layers(like, tensors, packed, result,
              [&](std::size_t i) { return take_weight(like, tensors.weights[i], result.held); });
  return result;
}

ProductArguments weight_product_arguments(const ProductTensors& tensors,
                                          std::span<const std::int64_t> outputs,
                                          std::int64_t alignment) {
  check_lists(tensors);
  const Reference like(tensors.op, tensors.low, alignment);
  const Tensor& x = tensors.operand;
  require_like(like, "x", x);
  ProductArguments result{.leading = leading_of(x), .channels = x.size(x.dim() - 1)};
  result.tokens = product_of(result.leading);
  if (leading_of(tensors.low) != result.leading) {
    fail(like.op, "a low of the same tokens as x", describe(tensors.low));
  }
  if (outputs.size() != tensors.count()) {
    fail(like.op, "outputs of " + std::to_string(tensors.count()) + " weights",
         std::to_string(outputs.size()));
  }
  result.low = take(like, "low", &tensors.low, result.held);
  const PackedShape input{.tokens = result.tokens,
                          .channels = result.channels,
                          .low = result.low,
                          .dtype = like.dtype,
                          .value_dtype = like.dtype};
  take_layers(like, tensors, input, result, [&](std::size_t i) {
    const Tensor& packed = tensors.weights[i];
    const bool fits = packed.scalar_type() == ScalarType::Byte && packed.is_contiguous() &&
                      TypeAndPlace(packed).same_place(like.place) &&
                      packed.numel() == operand24_bytes(outputs[i], result.channels);
    if (!fits) {
      fail(like.op,
           "a weight of " + std::to_string(outputs[i]) + " outputs and " +
               std::to_string(result.channels) + " channels that pack_weight gave",
           describe(packed));
    }
    return contiguous(packed.const_data_ptr(), like.dtype, outputs[i], result.channels);
  });
  return result;
}

void check_low_rank(const std::optional<Tensor>& lora_down, const std::optional<Tensor>& lora_up) {
  if (lora_down.has_value() == lora_up.has_value()) return;
  fail("linear24", "lora_down and lora_up together or neither",
       lora_down ? "lora_down alone" : "lora_up alone");
}

void check_out(const ProductTensors& tensors, const ProductArguments& arguments,
               std::span<const Tensor> out) {
  const Reference like(tensors.op, tensors.low, /*alignment=*/1);
  if (out.size() != arguments.products.size()) {
    fail(like.op, std::to_string(arguments.products.size()) + " tensors to write to",
         std::to_string(out.size()));
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    require_like(like, "out", out[i]);
    const std::vector<std::int64_t> wanted =
        with_last(arguments.leading, arguments.products[i].weight.rows);
    if (out[i].sizes().vec() != wanted) {
      fail(like.op, "out " + shape_text(wanted), describe(out[i]));
    }
  }
}

}  // namespace rtlynx::ops
