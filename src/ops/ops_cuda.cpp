// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "kernels/check.h"
#include "kernels/gemm/select.h"
#include "kernels/plain/sparsify24.h"
#include "ops/implementations.h"
#include "ops/plain.h"
#include "ops/workspace_cuda.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/gpu/product24.h"
#include "rtlynx/gpu/rows.h"
#include "rtlynx/gpu/weight24.h"
#include "rtlynx/limits.h"
#include "rtlynx/operand24.h"

namespace rtlynx::ops::cuda {
namespace {

constexpr std::int64_t kPackAlignment = 16;  // elements, of rows
constexpr std::int64_t kRowAlignment = 8;

/// Makes the tensor's device current, if it is not, and knows torch's stream there.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor& tensor) {
    const std::int32_t index = tensor.get_device_index();
    int current = -1;
    gpu::check(cudaGetDevice(&current), "the current device");
    if (index != current) guard_.emplace(index);
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index, &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }

 private:
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  cudaStream_t stream_ = nullptr;
};

/// The dispatcher comes here if any argument is on a GPU: x itself may be elsewhere.
void require_cuda(std::string_view op, const Tensor& x) {
  if (!x.is_cuda()) fail(op, "all tensors on one device", "the first one " + describe(x));
}

MatrixView rows_view(const Tensor& tensor, DType dtype, std::int64_t rows) {
  const auto sizes = tensor.sizes();
  return contiguous(tensor.mutable_data_ptr(), dtype, rows, sizes[sizes.size() - 1]);
}

Sparsified sparsify24(const Tensor& x, bool norm) {
  const NoGrad no_grad;
  require_cuda("sparsify24", x);
  const OnDeviceOf device(x);
  const Tensor source = as_contiguous(x);
  const MatrixView rows = matrix_of("sparsify24", source).view;
  if (rows.columns % 4 != 0) {
    fail("sparsify24", "channels divisible by 4", std::to_string(rows.columns));
  }
  const Tensor kept = empty_like_device(x, x.sizes().vec(), x.scalar_type());
  const Tensor scale = empty_like_device(x, leading_of(x), ScalarType::Float);
  gpu::check(launch_sparsify24({.x = source.const_data_ptr(),
                                .kept = kept.mutable_data_ptr(),
                                .scale = norm ? scale.mutable_data_ptr<float>() : nullptr,
                                .dtype = rows.dtype,
                                .rows = rows.rows,
                                .columns = rows.columns},
                               device.stream()),
             "sparsify24");
  if (norm) return {kept, scale};
  return {kept, torch::stable::fill_(scale, 1.0)};
}

/// A pack for the Sparse Tensor Cores.
Packed pack_tiled(const PackTensors& tensors, const OnDeviceOf& device) {
  PackArguments arguments = pack_arguments(tensors, kPackAlignment);
  Pack24& input = arguments.input;
  const std::int64_t tokens = arguments.tokens(), channels = arguments.channels();
  const ScalarType type = tensors.x.scalar_type();
  const OperandWidth width = tensors.e4m3_unit ? OperandWidth::k8 : OperandWidth::k16;
  const Tensor operand =
      empty_like_device(tensors.x, {operand24_bytes(tokens, channels, width)}, ScalarType::Byte);
  const Tensor scale = empty_like_device(tensors.x, arguments.leading, ScalarType::Float);
  const Tensor low =
      empty_like_device(tensors.x, with_last(arguments.leading, input.down.rows), type);
  if (tokens == 0) return {operand, scale, low};
  std::optional<Tensor> moments;
  if (arguments.computes_moments) {
    moments = empty_like_device(tensors.x, {tokens, 2}, ScalarType::Float);
    input.moments = moments->mutable_data_ptr<float>();
    gpu::moments({.x = input.x,
                  .norm = *arguments.computes_moments,
                  .eps = arguments.eps,
                  .moments = moments->mutable_data_ptr<float>()},
                 device.stream());
  }
  std::optional<Tensor> factors;
  if (tensors.e4m3_unit) {
    factors = empty_like_device(tensors.x, {tokens}, ScalarType::Float);
    input.code_factor = factors->mutable_data_ptr<float>();
    gpu::code_factors(input, static_cast<float>(tensors.transform_gain),
                      factors->mutable_data_ptr<float>(), device.stream());
  }
  const std::size_t bytes =
      gpu::pack24_workspace_bytes(static_cast<int>(input.down.rows), gpu::current_device());
  gpu::pack24(input,
              {.dtype = input.x.dtype,
               .width = width,
               .tokens = tokens,
               .channels = channels,
               .operand = operand.mutable_data_ptr(),
               .scale = scale.mutable_data_ptr<float>(),
               .low = rows_view(low, input.x.dtype, tokens)},
              workspace_for(tensors.x, bytes, device.stream()), device.stream());
  return {operand, scale, low};
}

Packed pack(const Tensor& x, const OptionalTensor& tail, const std::string& producer,
            const OptionalTensor& up, const OptionalTensor& moments, const OptionalTensor& weight,
            const OptionalTensor& scale, const OptionalTensor& shift, double eps,
            const OptionalTensor& transform, const OptionalTensor& down, bool norm,
            std::optional<double> e4m3_unit, double transform_gain, const OptionalTensor& limit,
            const OptionalTensor& tail_limit) {
  const NoGrad no_grad;
  require_cuda("pack", x);
  const OnDeviceOf device(x);
  const PackTensors tensors{.x = x,
                            .tail = pointer_to(tail),
                            .producer = producer,
                            .up = pointer_to(up),
                            .moments = pointer_to(moments),
                            .weight = pointer_to(weight),
                            .scale = pointer_to(scale),
                            .shift = pointer_to(shift),
                            .eps = eps,
                            .transform = pointer_to(transform),
                            .down = pointer_to(down),
                            .norm = norm,
                            .e4m3_unit = e4m3_unit,
                            .transform_gain = transform_gain,
                            .limit = pointer_to(limit),
                            .tail_limit = pointer_to(tail_limit)};
  if (x.dim() < 1) fail("pack", "at least one dimension", describe(x));
  std::int64_t channels = x.size(x.dim() - 1);
  if (tail && tail->dim() > 0) channels += tail->size(tail->dim() - 1);
  if (is_tiled(x, channels)) return pack_tiled(tensors, device);
  if (e4m3_unit) fail("pack", "f16 or bf16 and K divisible by 16 for e4m3", describe(x));
  return plain::pack(tensors);
}

/// Y of each product, in new tensors.
Tensors new_results(const ProductTensors& tensors, ProductArguments& arguments) {
  Tensors results;
  results.reserve(arguments.products.size());
  const ScalarType type = tensors.low.scalar_type();
  std::vector<std::int64_t> shape = with_last(arguments.leading, 0);
  for (Product24& product : arguments.products) {
    shape.back() = product.weight.rows;
    results.push_back(empty_like_device(tensors.low, shape, type));
    product.y = rows_view(results.back(), arguments.low.dtype, arguments.tokens);
  }
  return results;
}

/// Y of each product, where the caller wants it.
void take_results(const ProductTensors& tensors, ProductArguments& arguments, const Tensors& out) {
  check_out(tensors, arguments, out);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const Matrix target = matrix_of(tensors.op, out[i], kRowAlignment);
    if (target.copy) {
      fail(tensors.op, "out with rows of equal distance that begin on 16 bytes", describe(out[i]));
    }
    arguments.products[i].y = target.view;
  }
}

/// A product on the Sparse Tensor Cores: into `out`, if given, else into new tensors.
Tensors product_tiled(const ProductTensors& tensors, const Tensors* out, const OnDeviceOf& device) {
  const Tensor& first = tensors.weights.front();
  if (first.dim() != 2) fail(tensors.op, "a weight [N, K]", describe(first));
  ProductArguments arguments = product_arguments(tensors, first.size(1), kRowAlignment);
  const std::int64_t tokens = arguments.tokens, channels = arguments.channels;
  const OperandWidth width = is_e4m3(first) ? OperandWidth::k8 : OperandWidth::k16;
  if (tensors.operand.numel() != operand24_bytes(tokens, channels, width)) {
    fail(tensors.op,
         "the operand of " + std::to_string(tokens) + " tokens and " + std::to_string(channels) +
             " channels that pack gave",
         describe(tensors.operand));
  }
  Tensors results;
  if (out != nullptr) {
    take_results(tensors, arguments, *out);
  } else {
    results = new_results(tensors, arguments);
  }
  if (tokens == 0) return results;
  gpu::Gemm24Shape shape{.tokens = tokens,
                         .channels = channels,
                         .rank = static_cast<int>(arguments.products.front().up.columns),
                         .dtype = arguments.low.dtype,
                         .width = width};
  for (const Product24& product : arguments.products) shape.outputs += product.weight.rows;
  const gpu::DeviceTraits traits = gpu::current_device();
  const gpu::Gemm24Config config = gpu::fastest_sparse(shape, traits);
  const Tensor operand = as_contiguous(tensors.operand);
  gpu::product24(
      {.dtype = shape.dtype,
       .width = width,
       .tokens = tokens,
       .channels = channels,
       .operand = operand.mutable_data_ptr(),
       .scale = const_cast<float*>(arguments.scale),
       .low = arguments.low},
      arguments.products, config,
      workspace_for(first, gpu::product24_workspace_bytes(config, traits), device.stream()),
      device.stream());
  return results;
}

Tensors run_product(const ProductTensors& tensors, const Tensors* out = nullptr) {
  const NoGrad no_grad;
  require_cuda(tensors.op, tensors.operand);
  if (tensors.weights.empty()) fail(tensors.op, "1 to 4 weights", "none");
  const OnDeviceOf device(tensors.operand);
  return tensors.operand.scalar_type() == ScalarType::Byte ? product_tiled(tensors, out, device)
                                                           : plain::product(tensors, out);
}

Tensors product(const Tensor& operand, const Tensor& row_scale, const Tensor& low,
                const Tensors& weights, const Tensors& ups, const Integers& low_starts,
                const Tensors& biases, const Integers& activations, const Tensors& gates,
                const Tensors& residuals) {
  return run_product(
      {operand, row_scale, low, weights, ups, low_starts, biases, activations, gates, residuals});
}

void product_out(const Tensor& operand, const Tensor& row_scale, const Tensor& low,
                 const Tensors& weights, const Tensors& ups, const Integers& low_starts,
                 const Tensors& biases, const Integers& activations, const Tensors& gates,
                 const Tensors& residuals, const Tensors& out, const Tensors& largest) {
  run_product({operand, row_scale, low, weights, ups, low_starts, biases, activations, gates,
               residuals, "product_out", largest},
              &out);
}

/// Only Hopper's kernels multiply sparse weights.
Tensor pack_weight(const Tensor& weight) {
  const NoGrad no_grad;
  require_cuda("pack_weight", weight);
  if (weight.dim() != 2) fail("pack_weight", "a weight [N, K]", describe(weight));
  const OnDeviceOf device(weight);
  const bool tiled = is_tiled(weight, weight.size(1)) && weight.size(0) % kOutputMultiple == 0 &&
                     gpu::current_device().compute_capability == 90;
  if (!tiled) return plain::pack_weight(weight);
  return std::get<0>(pack_tiled({.x = weight, .norm = false, .op = "pack_weight"}, device));
}

WeightProduct24 weight_product_of(const Product24& product) {
  return {.values = contiguous(static_cast<const void*>(nullptr), product.weight.dtype,
                               product.weight.rows, product.weight.columns / 2),
          .operand = product.weight.data,
          .up = product.up,
          .low_column = product.low_column,
          .bias = product.bias,
          .bias_dtype = product.bias_dtype,
          .activation = product.activation,
          .gate = product.gate,
          .image_tokens = product.image_tokens,
          .residual = product.residual,
          .y = product.y};
}

Tensors run_weight_product(const ProductTensors& tensors, const Integers& outputs,
                           const Tensors* out = nullptr) {
  const NoGrad no_grad;
  const Tensor& x = tensors.operand;
  require_cuda(tensors.op, x);
  if (x.dim() < 1) fail(tensors.op, "at least one dimension", describe(x));
  if (tensors.weights.empty()) fail(tensors.op, "1 to 4 weights", "none");
  const OnDeviceOf device(x);
  if (tensors.weights.front().scalar_type() != ScalarType::Byte) {
    return plain::weight_product(tensors, out);
  }
  ProductArguments arguments = weight_product_arguments(tensors, outputs, kRowAlignment);
  Tensors results;
  if (out != nullptr) {
    take_results(tensors, arguments, *out);
  } else {
    results = new_results(tensors, arguments);
  }
  if (arguments.tokens == 0) return results;
  gpu::Gemm24Shape shape{.tokens = arguments.tokens,
                         .channels = arguments.channels,
                         .rank = static_cast<int>(arguments.products.front().up.columns),
                         .dtype = arguments.low.dtype};
  std::vector<WeightProduct24> products;
  products.reserve(arguments.products.size());
  for (const Product24& product : arguments.products) {
    shape.outputs += product.weight.rows;
    products.push_back(weight_product_of(product));
  }
  const gpu::DeviceTraits traits = gpu::current_device();
  const gpu::Gemm24Config config = gpu::fastest_weight24(shape, traits);
  const Matrix matrix = matrix_of(tensors.op, x, kRowAlignment);
  gpu::weight_product24(
      {.x = matrix.view, .low = arguments.low}, products, config,
      workspace_for(x, gpu::product24_workspace_bytes(config, traits), device.stream()),
      device.stream());
  return results;
}

Tensors weight_product(const Tensor& x, const Tensor& low, const Tensors& weights,
                       const Integers& outputs, const Tensors& ups, const Integers& low_starts,
                       const Tensors& biases, const Integers& activations, const Tensors& gates,
                       const Tensors& residuals) {
  return run_weight_product({x, x, low, weights, ups, low_starts, biases, activations, gates,
                             residuals, "weight_product"},
                            outputs);
}

void weight_product_out(const Tensor& x, const Tensor& low, const Tensors& weights,
                        const Integers& outputs, const Tensors& ups, const Integers& low_starts,
                        const Tensors& biases, const Integers& activations, const Tensors& gates,
                        const Tensors& residuals, const Tensors& out) {
  run_weight_product({x, x, low, weights, ups, low_starts, biases, activations, gates, residuals,
                      "weight_product_out"},
                     outputs, &out);
}

/// Whether the kernels take a layer of this rank and these outputs.
bool kernels_take(const Tensor& weight, const OptionalTensor& lora_down) {
  const std::int64_t rank = lora_down && lora_down->dim() == 2 ? lora_down->size(0) : 0;
  return weight.dim() == 2 && weight.size(0) % kOutputMultiple == 0 && rank % kRankMultiple == 0 &&
         rank <= kMaxRank;
}

Tensor linear24(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                const OptionalTensor& lora_down, const OptionalTensor& lora_up, bool norm) {
  const NoGrad no_grad;
  require_cuda("linear24", x);
  check_low_rank(lora_down, lora_up);
  const OnDeviceOf device(x);
  const PackTensors tensors = pack_tensors(x, lora_down, norm);
  if (x.dim() < 1) fail("linear24", "at least one dimension", describe(x));
  if (!is_tiled(x, x.size(x.dim() - 1)) || !kernels_take(weight, lora_down)) {
    const Packed packed = plain::pack(tensors);
    return plain::product(product_tensors(packed, weight, bias, lora_up)).front();
  }
  const Packed packed = pack_tiled(tensors, device);
  return product_tiled(product_tensors(packed, weight, bias, lora_up), nullptr, device).front();
}

void require_narrow(std::string_view op, const Tensor& tensor) {
  if (dtype_of(op, tensor) == DType::f32) fail(op, "f16 or bf16 on a GPU", describe(tensor));
}

NormedRows residual_norm(const Tensor& x, const OptionalTensor& y, const OptionalTensor& gate,
                         bool tanh_gate, const OptionalTensor& post_weight, double post_eps,
                         const std::string& norm, double eps, const OptionalTensor& weight,
                         const OptionalTensor& scale, const OptionalTensor& shift,
                         bool want_normed) {
  const NoGrad no_grad;
  require_cuda("residual_norm", x);
  require_narrow("residual_norm", x);
  const OnDeviceOf device(x);
  const ResidualNormArguments arguments = residual_norm_arguments(
      {x, pointer_to(y), pointer_to(gate), pointer_to(post_weight), tanh_gate, post_eps, norm, eps,
       pointer_to(weight), pointer_to(scale), pointer_to(shift), want_normed},
      kRowAlignment);
  ResidualNorm problem = arguments.problem;
  const DType dtype = problem.x.dtype;
  const std::int64_t rows = problem.x.rows, columns = problem.x.columns;
  const auto new_rows = [&](std::int64_t width) {
    return empty_like_device(x, with_last(arguments.leading, width), x.scalar_type());
  };
  // Without y the residual is x: a copy of it would be all that is written.
  const Tensor h = problem.y.rows > 0 ? new_rows(columns) : torch::stable::clone(x);
  const Tensor normed = new_rows(want_normed ? columns : 0);
  const Tensor moments = empty_like_device(x, with_last(arguments.leading, 2), ScalarType::Float);
  if (problem.y.rows > 0) problem.h = rows_view(h, dtype, rows);
  if (want_normed) problem.normed = rows_view(normed, dtype, rows);
  problem.moments = moments.mutable_data_ptr<float>();
  gpu::residual_norm(problem, device.stream());
  return {h, moments, normed};
}

Heads head_norm(const Tensors& q, const Tensors& k, const Tensors& v, const Tensors& q_weights,
                const Tensors& k_weights, const OptionalTensor& rotation, std::int64_t head_dim,
                double eps) {
  const NoGrad no_grad;
  if (q.empty()) fail("head_norm", "q of one stream or two", "none");
  require_cuda("head_norm", q.front());
  require_narrow("head_norm", q.front());
  const OnDeviceOf device(q.front());
  const HeadNormArguments arguments = head_norm_arguments(
      {q, k, v, q_weights, k_weights, pointer_to(rotation), head_dim, eps}, kRowAlignment);
  HeadNorm problem = arguments.problem;
  const DType dtype = problem.streams[0].q.dtype;
  const std::int64_t columns = problem.heads * head_dim;
  const auto new_joint = [&](std::int64_t width) {
    return empty_like_device(q.front(), {arguments.images, arguments.tokens, width},
                             q.front().scalar_type());
  };
  const Tensor joint_q = new_joint(columns), joint_k = new_joint(columns);
  const Tensor joint_v = new_joint(v.empty() ? 0 : columns);
  const std::int64_t rows = arguments.images * arguments.tokens;
  problem.q = rows_view(joint_q, dtype, rows);
  problem.k = rows_view(joint_k, dtype, rows);
  if (!v.empty()) problem.v = rows_view(joint_v, dtype, rows);
  gpu::head_norm(problem, device.stream());
  return {joint_q, joint_k, joint_v};
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  const NoGrad no_grad;
  require_cuda("swiglu", gate);
  require_narrow("swiglu", gate);
  const OnDeviceOf device(gate);
  const SwigluArguments arguments = swiglu_arguments(gate, up, kRowAlignment);
  Swiglu problem = arguments.problem;
  const ConstMatrixView& rows = problem.gate;
  const Tensor y =
      empty_like_device(gate, with_last(arguments.leading, rows.columns), gate.scalar_type());
  problem.y = rows_view(y, rows.dtype, rows.rows);
  gpu::swiglu(problem, device.stream());
  return y;
}

}  // namespace
}  // namespace rtlynx::ops::cuda

RTLYNX_REGISTER_OPERATORS(CUDA, rtlynx::ops::cuda)
