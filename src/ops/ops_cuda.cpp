// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "kernels/gpu/check.h"
#include "kernels/pack/linear24_steps.h"
#include "kernels/pack/operand_rows.h"
#include "kernels/pack/sparsify24.h"
#include "ops/arguments.h"
#include "ops/dispatch.h"
#include "ops/sparse_linear24.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx::ops {
namespace {

using gpu::check;
using torch::stable::new_empty;

/// Makes the tensor's device current and knows torch's stream there.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

/// The dispatcher comes here if any argument is on a GPU: x itself may be elsewhere.
void require_cuda(std::string_view op, const Tensor& x) {
  if (!x.is_cuda()) fail(op, "all tensors on one device", "the first one " + describe(x));
}

float* data_or_null(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->mutable_data_ptr<float>() : nullptr;
}

/// X~, and s [M] if the norm is wanted.
struct Selection {
  Tensor kept;
  std::optional<Tensor> scale;
};

Selection select(const Rows& x, bool norm, const OnDeviceOf& device) {
  Selection result{.kept = new_empty(x.tensor, x.shape)};
  if (norm) result.scale = new_empty(x.tensor, {x.rows}, ScalarType::Float);
  check(launch_sparsify24({.x = x.tensor.const_data_ptr(),
                           .kept = result.kept.mutable_data_ptr(),
                           .scale = data_or_null(result.scale),
                           .dtype = x.dtype,
                           .rows = x.rows,
                           .columns = x.columns},
                          device.stream()),
        "sparsify24");
  return result;
}

Sparsified sparsify24(const Tensor& x, bool norm) {
  const NoGrad no_grad;
  require_cuda("sparsify24", x);
  const OnDeviceOf device(x);
  const Rows rows = rows_of("sparsify24", x, 4);
  const Selection selection = select(rows, norm, device);
  if (selection.scale) return {selection.kept, *selection.scale};
  const Tensor ones = new_empty(rows.tensor, {rows.rows}, ScalarType::Float);
  return {selection.kept, torch::stable::fill_(ones, 1.0)};
}

/// A [M, K] B^T for B [N, K], accumulated and returned in fp32. The out= form is the one that
/// autocast leaves alone.
Tensor product(const Tensor& a, const Tensor& b) {
  const Tensor result = new_empty(a, {a.size(0), b.size(0)}, ScalarType::Float);
  return call_aten("aten::mm", "dtype_out", a, torch::stable::transpose(b, 0, 1), ScalarType::Float,
                   result);
}

/// (H / s) L_up with H = X L_down.
Tensor low_rank(const Tensor& x, const Linear24Arguments& in, const std::optional<Tensor>& scale,
                const OnDeviceOf& device) {
  const Tensor h = product(x, *in.down);
  const Tensor quotient = new_empty(x, {h.size(0), h.size(1)});
  check(launch_divide_rows({.h = h.const_data_ptr<float>(),
                            .scale = data_or_null(scale),
                            .result = quotient.mutable_data_ptr(),
                            .dtype = in.x.dtype,
                            .rows = h.size(0),
                            .columns = h.size(1)},
                           device.stream()),
        "linear24");
  return product(quotient, *in.up);
}

/// X~ with its zeros written out, and dense GEMMs: it computes what the specification says, for
/// all arguments, and saves no time.
void run_plain_linear24(const Linear24Arguments& in, bool norm, const Tensor& y,
                        const OnDeviceOf& device) {
  const auto as_matrix = [&](const Tensor& tensor) {
    return torch::stable::view(tensor, {in.x.rows, in.x.columns});
  };
  const Selection selection = select(in.x, norm, device);
  const Tensor acc = product(as_matrix(selection.kept), in.weight);
  std::optional<Tensor> low;
  if (in.down) low = low_rank(as_matrix(in.x.tensor), in, selection.scale, device);
  check(launch_linear24_epilogue({.acc = acc.const_data_ptr<float>(),
                                  .low = data_or_null(low),
                                  .scale = data_or_null(selection.scale),
                                  .bias = in.bias ? in.bias->const_data_ptr() : nullptr,
                                  .y = y.mutable_data_ptr(),
                                  .dtype = in.x.dtype,
                                  .rows = in.x.rows,
                                  .columns = in.outputs},
                                 device.stream()),
        "linear24");
}

void run_linear24(const Linear24Arguments& in, bool norm, const Linear24Choice& choice,
                  const Tensor& y, const OnDeviceOf& device) {
  if (choice.sparse) {
    run_sparse_linear24(in, norm, *choice.sparse, y, device.stream());
  } else {
    run_plain_linear24(in, norm, y, device);
  }
}

Tensor linear24(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                const std::optional<Tensor>& lora_down, const std::optional<Tensor>& lora_up,
                bool norm) {
  const NoGrad no_grad;
  require_cuda("linear24", x);
  const OnDeviceOf device(x);
  const Linear24Arguments in = linear24_arguments("linear24", x, weight, bias, lora_down, lora_up);
  const Tensor y = new_empty(in.x.tensor, in.x.shape_with(in.outputs));
  if (y.numel() > 0) run_linear24(in, norm, choose_linear24(in), y, device);
  return y;
}

/// The layer on the unsparsified x. The out= form is the one that autocast leaves alone.
void run_dense_linear(const Linear24Arguments& in, const Tensor& y) {
  call_aten("aten::linear", "out", torch::stable::view(in.x.tensor, {in.x.rows, in.x.columns}),
            in.weight, in.bias, torch::stable::view(y, {in.x.rows, in.outputs}));
}

Tensor linear24_auto(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                     const std::optional<Tensor>& lora_down, const std::optional<Tensor>& lora_up,
                     bool norm) {
  const NoGrad no_grad;
  require_cuda("linear24_auto", x);
  const OnDeviceOf device(x);
  const Linear24Arguments in =
      linear24_arguments("linear24_auto", x, weight, bias, lora_down, lora_up);
  const Tensor y = new_empty(in.x.tensor, in.x.shape_with(in.outputs));
  if (y.numel() == 0) return y;
  const Linear24Choice choice = choose_linear24(in);
  if (choice.dense_is_faster) {
    run_dense_linear(in, y);
  } else {
    run_linear24(in, norm, choice, y, device);
  }
  return y;
}

/// On a GPU only these are packed.
void require_16_bits(std::string_view op, const Rows& rows) {
  if (size_of(rows.dtype) != 2) fail(op, "f16 or bf16 on a GPU", describe(rows.tensor));
}

Packed pack24(const Tensor& x) {
  const NoGrad no_grad;
  require_cuda("pack24", x);
  const OnDeviceOf device(x);
  const Rows rows = rows_of("pack24", x, 16);
  require_16_bits("pack24", rows);
  const Tensor values = new_empty(rows.tensor, rows.shape_with(rows.columns / 2));
  const Tensor metadata =
      new_empty(rows.tensor, rows.shape_with(rows.columns / 16), ScalarType::Short);
  const Tensor scale = new_empty(rows.tensor, {rows.rows}, ScalarType::Float);
  if (values.numel() == 0) return {values, metadata, torch::stable::fill_(scale, 1.0)};

  const Tensor source = aligned(rows.tensor);
  const Tensor operand = new_operand24(rows);
  const std::optional<Tensor> workspace = new_pack_workspace(source, /*rank=*/0, device.stream());
  gpu::pack24({.x = contiguous(source.const_data_ptr(), rows.dtype, rows.rows, rows.columns),
               .operand = operand.mutable_data_ptr(),
               .scale = scale.mutable_data_ptr<float>(),
               .workspace = workspace ? workspace->mutable_data_ptr() : nullptr,
               .workspace_bytes = workspace ? static_cast<std::size_t>(workspace->numel()) : 0},
              device.stream());
  check(launch_operand_to_rows(
            operand.const_data_ptr(),
            contiguous(values.mutable_data_ptr(), rows.dtype, rows.rows, rows.columns / 2),
            static_cast<std::uint16_t*>(metadata.mutable_data_ptr()), device.stream()),
        "pack24");
  return {values, metadata, scale};
}

/// Metadata is trusted: to look for words that no packing gives would be to wait for the GPU.
Tensor unpack24(const Tensor& values, const Tensor& metadata) {
  const NoGrad no_grad;
  require_cuda("unpack24", values);
  const OnDeviceOf device(values);
  const Unpack24Arguments in = unpack24_arguments(values, metadata);
  require_16_bits("unpack24", in.values);
  const Tensor kept = new_empty(in.values.tensor, in.values.shape_with(2 * in.values.columns));
  const Tensor source = aligned(in.values.tensor);
  check(launch_unpack_rows(
            contiguous(source.const_data_ptr(), in.values.dtype, in.values.rows, in.values.columns),
            static_cast<const std::uint16_t*>(in.metadata.const_data_ptr()),
            kept.mutable_data_ptr(), device.stream()),
        "unpack24");
  return kept;
}

}  // namespace
}  // namespace rtlynx::ops

STABLE_TORCH_LIBRARY_IMPL(rtlynx, CUDA, m) {
  m.impl("sparsify24", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::sparsify24>::call));
  m.impl("pack24", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::pack24>::call));
  m.impl("unpack24", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::unpack24>::call));
  m.impl("linear24", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::linear24>::call));
  m.impl("linear24_auto", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::linear24_auto>::call));
}
