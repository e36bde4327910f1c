// SPDX-License-Identifier: Apache-2.0
#include "ops/arguments.h"

#include <array>
#include <cstdint>
#include <utility>

#include "base/error.h"
#include "kernels/spec/arguments.h"
#include "ops/implementations.h"
#include "rtlynx/limits.h"

namespace rtlynx::ops {
namespace {

std::optional<DType> known_dtype(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return DType::f32;
    case ScalarType::Half:
      return DType::f16;
    case ScalarType::BFloat16:
      return DType::bf16;
    default:
      return std::nullopt;
  }
}

std::string type_name(ScalarType type) {
  if (const auto dtype = known_dtype(type)) return name_of(*dtype);
  return torch::headeronly::toString(type);
}

std::string device_name(const Tensor& tensor) {
  if (tensor.is_cpu()) return "cpu";
  const std::string index = std::to_string(tensor.get_device_index());
  return tensor.is_cuda() ? "cuda:" + index : "another device:" + index;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

std::int64_t product_of(const std::vector<std::int64_t>& sizes) {
  std::int64_t product = 1;
  for (const std::int64_t size : sizes) product *= size;
  return product;
}

/// The distance between the rows of a tensor whose last dimension is dense, if there is one.
std::optional<std::int64_t> row_stride_of(const Tensor& tensor) {
  const std::int64_t dims = tensor.dim();
  if (tensor.size(dims - 1) > 1 && tensor.stride(dims - 1) != 1) return std::nullopt;
  std::optional<std::int64_t> stride;  // of the rows
  std::int64_t expected = 0;           // of the next dimension
  for (std::int64_t i = dims - 2; i >= 0; --i) {
    if (tensor.size(i) == 1) continue;
    if (!stride) {
      stride = tensor.stride(i);
    } else if (tensor.stride(i) != expected) {
      return std::nullopt;
    }
    expected = tensor.stride(i) * tensor.size(i);
  }
  const std::int64_t columns = tensor.size(dims - 1);
  if (!stride) return columns;
  return *stride >= columns ? stride : std::nullopt;
}

bool is_aligned(const Tensor& tensor, std::int64_t alignment) {
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
  return alignment == 1 || address % 16 == 0;
}

/// The tensor that says what type the others have and where they lie.
struct Reference {
  std::string_view op;
  Tensor tensor;
  std::int64_t alignment;
};

void require_like(const Reference& like, std::string_view name, const Tensor& tensor) {
  if (tensor.scalar_type() == like.tensor.scalar_type() &&
      tensor.device() == like.tensor.device()) {
    return;
  }
  fail(like.op,
       std::string(name) + " of type " + type_name(like.tensor.scalar_type()) + " on " +
           device_name(like.tensor),
       describe(tensor));
}

void require_fp32(const Reference& like, std::string_view name, const Tensor& tensor) {
  if (tensor.scalar_type() == ScalarType::Float && tensor.device() == like.tensor.device()) return;
  fail(like.op, std::string(name) + " of type f32 on " + device_name(like.tensor),
       describe(tensor));
}

/// A matrix of the reference's type; `held` keeps it alive.
MatrixView take(const Reference& like, std::string_view name, const std::optional<Tensor>& tensor,
                std::vector<Tensor>& held) {
  if (!tensor) return {};
  require_like(like, name, *tensor);
  Matrix matrix = matrix_of(like.op, *tensor, like.alignment);
  held.push_back(matrix.tensor);
  return matrix.view;
}

/// A vector of the reference's type and of this length.
const void* take_vector(const Reference& like, std::string_view name,
                        const std::optional<Tensor>& tensor, std::int64_t length,
                        std::vector<Tensor>& held) {
  if (!tensor) return nullptr;
  require_like(like, name, *tensor);
  if (tensor->dim() != 1 || tensor->size(0) != length) {
    fail(like.op, std::string(name) + " [" + std::to_string(length) + "]", describe(*tensor));
  }
  const MatrixView view = take(like, name, tensor, held);
  return view.data;
}

/// fp32 numbers, one behind the other; `held` keeps them alive.
const float* take_numbers(const Reference& like, const Tensor& tensor, std::vector<Tensor>& held) {
  Tensor numbers = torch::stable::contiguous(tensor);
  if (!is_aligned(numbers, like.alignment)) numbers = torch::stable::clone(numbers);
  held.push_back(numbers);
  return static_cast<const float*>(numbers.const_data_ptr());
}

/// How many tokens share one of `images` rows.
std::int64_t tokens_of_image(std::string_view op, std::string_view name, std::int64_t tokens,
                             std::int64_t images) {
  if (images > 0 && tokens % images == 0) return tokens / images;
  fail(op,
       std::string(name) + " of one row for every image of equally many of the " +
           std::to_string(tokens) + " tokens",
       std::to_string(images) + " rows");
}

/// What one row for each image says of the number of images; all have to agree.
void settle_images(std::string_view op, std::string_view name, ConstMatrixView matrix,
                   std::int64_t tokens, std::int64_t& image_tokens) {
  if (matrix.rows == 0 || tokens == 0) return;
  const std::int64_t shared = tokens_of_image(op, name, tokens, matrix.rows);
  if (image_tokens != 0 && image_tokens != shared) {
    fail(op, std::string(name) + " of " + std::to_string(tokens / image_tokens) + " rows",
         std::to_string(matrix.rows));
  }
  image_tokens = shared;
}

Producer producer_of(const PackTensors& tensors) {
  static constexpr std::array<std::pair<std::string_view, Producer>, 5> kNames = {{
      {"none", Producer::none},
      {"gelu", Producer::gelu},
      {"swiglu", Producer::swiglu},
      {"layer_norm", Producer::norm},
      {"rms_norm", Producer::norm},
  }};
  for (const auto& [name, producer] : kNames) {
    if (tensors.producer == name) return producer;
  }
  fail(tensors.op, "a producer none, gelu, swiglu, layer_norm or rms_norm", tensors.producer);
}

/// What belongs to another producer was meant for something.
void refuse_unread(const PackTensors& tensors, Producer producer) {
  const auto refuse = [&](std::string_view name, const std::optional<Tensor>& tensor,
                          std::string_view producers) {
    if (!tensor) return;
    fail(tensors.op, std::string(name) + " with " + std::string(producers) + " alone",
         "producer " + tensors.producer);
  };
  if (producer != Producer::swiglu) refuse("up", tensors.up, "producer swiglu");
  if (producer == Producer::norm) return;
  constexpr std::string_view kNorms = "producers layer_norm and rms_norm";
  refuse("moments", tensors.moments, kNorms);
  refuse("weight", tensors.weight, kNorms);
  refuse("scale", tensors.scale, kNorms);
  refuse("shift", tensors.shift, kNorms);
}

void take_norm(const Reference& like, const PackTensors& tensors, PackArguments& result) {
  Pack24& input = result.input;
  const std::int64_t channels = result.channels();
  if (tensors.moments) {
    require_fp32(like, "moments", *tensors.moments);
    if (tensors.moments->numel() != 2 * input.x.rows) {
      fail(like.op, "moments of 2 numbers for each of " + std::to_string(input.x.rows) + " tokens",
           describe(*tensors.moments));
    }
    input.moments = take_numbers(like, *tensors.moments, result.held);
  } else {
    result.computes_moments = tensors.producer == "rms_norm" ? Norm::rms : Norm::layer;
  }
  input.weight = take_vector(like, "weight", tensors.weight, channels, result.held);
  input.modulation_scale = take(like, "scale", tensors.scale, result.held);
  input.modulation_shift = take(like, "shift", tensors.shift, result.held);
  settle_images(like.op, "scale", input.modulation_scale, input.x.rows, input.image_tokens);
  settle_images(like.op, "shift", input.modulation_shift, input.x.rows, input.image_tokens);
}

void take_transform(const Reference& like, const PackTensors& tensors, PackArguments& result) {
  if (!tensors.transform) return;
  const Tensor& transform = *tensors.transform;
  require_like(like, "transform", transform);
  const std::int64_t channels = result.channels();
  if (transform.dim() != 3 || transform.size(1) != transform.size(2) ||
      transform.size(0) * transform.size(1) != channels) {
    fail(like.op, "a transform [K / block, block, block] for K = " + std::to_string(channels),
         describe(transform));
  }
  Matrix blocks = matrix_of(like.op, torch::stable::contiguous(transform), like.alignment);
  result.held.push_back(blocks.tensor);
  result.input.transform = blocks.view.data;
  result.input.transform_block = static_cast<int>(transform.size(1));
}

}  // namespace

std::string describe(const Tensor& tensor) {
  return type_name(tensor.scalar_type()) + " " + shape_text(tensor.sizes().vec()) + " on " +
         device_name(tensor);
}

DType dtype_of(std::string_view op, const Tensor& tensor) {
  const auto dtype = known_dtype(tensor.scalar_type());
  if (!dtype) fail(op, "f32, f16 or bf16", describe(tensor));
  return *dtype;
}

std::vector<std::int64_t> with_last(std::vector<std::int64_t> sizes, std::int64_t last) {
  sizes.push_back(last);
  return sizes;
}

Matrix matrix_of(std::string_view op, const Tensor& tensor, std::int64_t alignment) {
  const DType dtype = dtype_of(op, tensor);
  if (tensor.dim() < 1) fail(op, "at least one dimension", describe(tensor));
  Matrix result{.tensor = tensor, .leading = tensor.sizes().vec(), .view = {}};
  result.leading.pop_back();
  const std::int64_t columns = tensor.size(tensor.dim() - 1);
  std::optional<std::int64_t> stride = row_stride_of(tensor);
  if (!stride || *stride % alignment != 0) {
    result.tensor = torch::stable::contiguous(tensor);
    stride = columns;
  }
  if (!is_aligned(result.tensor, alignment)) {
    result.tensor = torch::stable::clone(torch::stable::contiguous(result.tensor));
    stride = columns;
  }
  result.view = {const_cast<void*>(result.tensor.const_data_ptr()), dtype,
                 product_of(result.leading), columns, *stride};
  return result;
}

PackArguments pack_arguments(const PackTensors& tensors, std::int64_t alignment) {
  const std::string_view op = tensors.op;
  PackArguments result{.eps = static_cast<float>(tensors.eps)};
  Matrix x = matrix_of(op, tensors.x, alignment);
  const Reference like{op, tensors.x, alignment};
  result.leading = x.leading;
  result.held.push_back(x.tensor);
  Pack24& input = result.input;
  input.x = x.view;
  input.tail = take(like, "tail", tensors.tail, result.held);
  if (result.channels() == 0) fail(op, "channels K of 16 or more", describe(tensors.x));
  input.producer = producer_of(tensors);
  refuse_unread(tensors, input.producer);
  if (input.producer == Producer::swiglu) input.up = take(like, "up", tensors.up, result.held);
  if (input.producer == Producer::norm) take_norm(like, tensors, result);
  take_transform(like, tensors, result);
  input.down = take(like, "down", tensors.down, result.held);
  input.restores_norm = tensors.norm;
  Pack24 checked = input;
  static constexpr float kAny[2] = {};
  if (result.computes_moments) checked.moments = kAny;
  check_pack24(op, checked);
  return result;
}

std::optional<Tensor> ProductTensors::entry(const std::vector<Tensor>& list, std::size_t i) {
  if (i >= list.size() || list[i].numel() == 0) return std::nullopt;
  return list[i];
}

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
}

void take_bias(const Reference& like, const std::optional<Tensor>& bias, Product24& product,
               std::vector<Tensor>& held) {
  if (!bias) return;
  const std::int64_t outputs = product.weight.rows;
  if (bias->scalar_type() != ScalarType::Float) {
    product.bias_dtype = dtype_of(like.op, like.tensor);
    product.bias = take_vector(like, "bias", bias, outputs, held);
    return;
  }
  require_fp32(like, "bias", *bias);
  if (bias->dim() != 1 || bias->size(0) != outputs) {
    fail(like.op, "a bias [" + std::to_string(outputs) + "]", describe(*bias));
  }
  Matrix vector = matrix_of(like.op, *bias, like.alignment);
  held.push_back(vector.tensor);
  product.bias = vector.view.data;
}

ConstMatrixView take_weight(const Reference& like, const Tensor& weight,
                            std::vector<Tensor>& held) {
  if (weight.dim() != 2 || weight.numel() == 0) {
    fail(like.op, "a weight [N, K], N and K at least 1", describe(weight));
  }
  require_like(like, "weight", weight);
  Matrix matrix = matrix_of(like.op, weight, like.alignment);
  held.push_back(matrix.tensor);
  return matrix.view;
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
  if (tensors.operand.device() != tensors.low.device()) {
    fail(like.op, "an operand on " + device_name(tensors.low), describe(tensors.operand));
  }
  const std::vector<std::int64_t> low_shape = tensors.low.sizes().vec();
  if (low_shape.empty() || with_last(result.leading, low_shape.back()) != low_shape) {
    fail(like.op, "a low of the same tokens as scale " + shape_text(result.leading),
         describe(tensors.low));
  }
  Matrix low = matrix_of(like.op, tensors.low, like.alignment);
  result.held.push_back(low.tensor);
  result.scale = take_numbers(like, tensors.scale, result.held);
  result.low = low.view;
  return {.tokens = result.tokens,
          .channels = result.channels,
          .low = low.view,
          .dtype = low.view.dtype};
}

}  // namespace

ProductArguments product_arguments(const ProductTensors& tensors, std::int64_t channels,
                                   std::int64_t alignment) {
  const std::string_view op = tensors.op;
  check_lists(tensors);
  const Reference like{op, tensors.low, alignment};
  ProductArguments result{.leading = tensors.scale.sizes().vec(), .channels = channels};
  result.tokens = product_of(result.leading);
  const PackedShape packed = take_packed(like, tensors, result);
  std::int64_t next_column = 0;
  for (std::size_t i = 0; i < tensors.count(); ++i) {
    Product24 product;
    product.weight = take_weight(like, tensors.weights[i], result.held);
    product.up = take(like, "up", ProductTensors::entry(tensors.ups, i), result.held);
    product.low_column = tensors.low_starts.empty() ? next_column : tensors.low_starts[i];
    next_column = product.low_column + product.up.columns;
    take_bias(like, ProductTensors::entry(tensors.biases, i), product, result.held);
    if (!tensors.activations.empty()) {
      product.activation = activation_of(op, tensors.activations[i]);
    }
    product.gate = take(like, "gate", ProductTensors::entry(tensors.gates, i), result.held);
    settle_images(op, "gate", product.gate, result.tokens, product.image_tokens);
    product.residual =
        take(like, "residual", ProductTensors::entry(tensors.residuals, i), result.held);
    Product24 checked = product;
    checked.y = {const_cast<void*>(product.weight.data), packed.dtype, packed.tokens,
                 product.weight.rows, product.weight.rows};
    check_product24(op, packed, checked);
    result.products.push_back(product);
  }
  return result;
}

bool is_tiled(const Tensor& x, std::int64_t channels) {
  return x.is_cuda() && x.scalar_type() != ScalarType::Float && channels % kChannelMultiple == 0;
}

ResidualNormArguments residual_norm_arguments(const ResidualNormTensors& tensors,
                                              std::int64_t alignment) {
  constexpr std::string_view kOp = "residual_norm";
  const Reference like{kOp, tensors.x, alignment};
  Matrix x = matrix_of(kOp, tensors.x, alignment);
  ResidualNormArguments result{.leading = x.leading, .held = {x.tensor}};
  ResidualNorm& problem = result.problem;
  problem.x = x.view;
  problem.y = take(like, "y", tensors.y, result.held);
  problem.gate = take(like, "gate", tensors.gate, result.held);
  problem.tanh_gate = tensors.tanh_gate;
  problem.post_weight =
      take_vector(like, "post_weight", tensors.post_weight, x.view.columns, result.held);
  problem.post_eps = static_cast<float>(tensors.post_eps);
  if (tensors.norm != "layer" && tensors.norm != "rms") {
    fail(kOp, "a norm layer or rms", tensors.norm);
  }
  problem.norm = tensors.norm == "layer" ? Norm::layer : Norm::rms;
  problem.eps = static_cast<float>(tensors.eps);
  problem.weight = take_vector(like, "weight", tensors.weight, x.view.columns, result.held);
  problem.scale = take(like, "scale", tensors.scale, result.held);
  problem.shift = take(like, "shift", tensors.shift, result.held);
  settle_images(kOp, "gate", problem.gate, x.view.rows, problem.image_tokens);
  settle_images(kOp, "scale", problem.scale, x.view.rows, problem.image_tokens);
  settle_images(kOp, "shift", problem.shift, x.view.rows, problem.image_tokens);
  check_residual_norm(kOp, problem);
  return result;
}

namespace {

/// The matrix of one stream [B, S, columns].
ConstMatrixView take_stream(const Reference& like, std::string_view name, const Tensor& tensor,
                            HeadNormArguments& result) {
  if (tensor.dim() != 3) {
    fail(like.op, std::string(name) + " [B, S, heads * head_dim]", describe(tensor));
  }
  if (result.images == 0) result.images = tensor.size(0);
  if (tensor.size(0) != result.images) {
    fail(like.op, std::string(name) + " of " + std::to_string(result.images) + " images",
         describe(tensor));
  }
  return take(like, name, tensor, result.held);
}

}  // namespace

HeadNormArguments head_norm_arguments(const HeadNormTensors& tensors, std::int64_t alignment) {
  constexpr std::string_view kOp = "head_norm";
  const std::size_t count = tensors.q.size();
  const auto fits = [&](std::size_t size) { return size == 0 || size == count; };
  if (count < 1 || count > 2 || tensors.k.size() != count || !fits(tensors.v.size()) ||
      !fits(tensors.q_weights.size()) || !fits(tensors.k_weights.size())) {
    fail(kOp, "q and k of one stream or two, and v and weights for none or all of them",
         std::to_string(count) + " q, " + std::to_string(tensors.k.size()) + " k, " +
             std::to_string(tensors.v.size()) + " v");
  }
  const Reference like{kOp, tensors.q.front(), alignment};
  HeadNormArguments result;
  HeadNorm& problem = result.problem;
  problem.stream_count = static_cast<int>(count);
  problem.head_dim = tensors.head_dim;
  problem.eps = static_cast<float>(tensors.eps);
  for (std::size_t i = 0; i < count; ++i) {
    HeadStream& stream = problem.streams[i];
    stream.q = take_stream(like, "q", tensors.q[i], result);
    stream.k = take_stream(like, "k", tensors.k[i], result);
    if (!tensors.v.empty()) stream.v = take_stream(like, "v", tensors.v[i], result);
    stream.tokens = tensors.q[i].size(1);
    result.tokens += stream.tokens;
    stream.q_weight = take_vector(like, "q_weight", ProductTensors::entry(tensors.q_weights, i),
                                  tensors.head_dim, result.held);
    stream.k_weight = take_vector(like, "k_weight", ProductTensors::entry(tensors.k_weights, i),
                                  tensors.head_dim, result.held);
  }
  problem.images = result.images;
  const std::int64_t columns = tensors.q.front().size(2);
  if (tensors.head_dim < 1 || columns % tensors.head_dim != 0) {
    fail(kOp, "a head_dim that divides " + std::to_string(columns),
         std::to_string(tensors.head_dim));
  }
  problem.heads = columns / tensors.head_dim;
  if (tensors.rotation) {
    require_fp32(like, "rotation", *tensors.rotation);
    const std::vector<std::int64_t> wanted{result.tokens, tensors.head_dim / 2, 2};
    if (tensors.rotation->sizes().vec() != wanted) {
      fail(kOp, "a rotation " + shape_text(wanted), describe(*tensors.rotation));
    }
    Matrix rotation = matrix_of(kOp, torch::stable::contiguous(*tensors.rotation), alignment);
    result.held.push_back(rotation.tensor);
    problem.rotation = static_cast<const float*>(rotation.view.data);
  }
  return result;
}

void check_low_rank(const std::optional<Tensor>& lora_down, const std::optional<Tensor>& lora_up) {
  if (lora_down.has_value() == lora_up.has_value()) return;
  fail("linear24", "lora_down and lora_up together or neither",
       lora_down ? "lora_down alone" : "lora_up alone");
}

void check_out(const ProductTensors& tensors, const ProductArguments& arguments,
               const std::vector<Tensor>& out) {
  const Reference like{tensors.op, tensors.low, /*alignment=*/1};
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
