// SPDX-License-Identifier: Apache-2.0
#include "ops/specification.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "rtlynx/compress24.h"
#include "rtlynx/operand24.h"
#include "rtlynx/pack24.h"
#include "rtlynx/product24.h"
#include "rtlynx/rows.h"

namespace rtlynx::testing {
namespace {

DType dtype_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kHalf       ? DType::f16
         : tensor.scalar_type() == at::kBFloat16 ? DType::bf16
                                                 : DType::f32;
}

std::uint16_t* words_of(const at::Tensor& metadata) {
  return reinterpret_cast<std::uint16_t*>(metadata.mutable_data_ptr());
}

/// The options on the CPU, and Pack24 that points at them.
class SpecifiedInput {
 public:
  SpecifiedInput(const at::Tensor& x, const ops::PackOptions& options) {
    arguments.x = take(x);
    arguments.tail = take(options.tail);
    arguments.producer = options.producer == "gelu"     ? Producer::gelu
                         : options.producer == "swiglu" ? Producer::swiglu
                         : options.producer == "none"   ? Producer::none
                                                        : Producer::norm;
    arguments.up = take(options.up);
    if (arguments.producer == Producer::norm) take_norm(options);
    if (options.transform) {
      arguments.transform = take(options.transform).data;
      arguments.transform_block = static_cast<int>(options.transform->size(1));
    }
    arguments.down = take(options.down);
    arguments.restores_norm = options.norm;
  }

  std::int64_t channels() const { return arguments.x.columns + arguments.tail.columns; }

  Pack24 arguments;

 private:
  ConstMatrixView take(const ops::OptionalTensor& tensor) {
    if (!tensor) return {};
    held_.push_back(rows_of(*tensor));
    return view(held_.back());
  }

  void take_norm(const ops::PackOptions& options) {
    const std::int64_t tokens = arguments.x.rows;
    if (options.moments) {
      arguments.moments = static_cast<const float*>(take(options.moments).data);
    } else {
      held_.push_back(at::empty({tokens, 2}, at::kFloat));
      moments({.x = arguments.x,
               .norm = options.producer == "rms_norm" ? Norm::rms : Norm::layer,
               .eps = static_cast<float>(options.eps),
               .moments = held_.back().mutable_data_ptr<float>()});
      arguments.moments = held_.back().const_data_ptr<float>();
    }
    arguments.weight = take(options.weight).data;
    arguments.modulation_scale = take(options.scale);
    arguments.modulation_shift = take(options.shift);
    const std::int64_t images =
        std::max(arguments.modulation_scale.rows, arguments.modulation_shift.rows);
    arguments.image_tokens = images > 0 ? tokens / images : 0;
  }

  std::vector<at::Tensor> held_;
};

Packed24 arguments_of(const SpecifiedPack& packed) {
  return {.values = mutable_view(packed.values),
          .metadata = words_of(packed.metadata),
          .scale = packed.scale.mutable_data_ptr<float>(),
          .low = mutable_view(packed.low)};
}

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return at::kFloat;
    case DType::f16:
      return at::kHalf;
    case DType::bf16:
      return at::kBFloat16;
    case DType::e4m3:
      return at::kFloat8_e4m3fn;
  }
  return at::kFloat;
}

at::Tensor rows_of(const at::Tensor& tensor) {
  const std::int64_t columns = tensor.size(-1);
  return tensor.cpu().contiguous().view({columns == 0 ? 0 : tensor.numel() / columns, columns});
}

ConstMatrixView view(const at::Tensor& matrix) {
  return contiguous(matrix.const_data_ptr(), dtype_of(matrix), matrix.size(0), matrix.size(1));
}

MatrixView mutable_view(const at::Tensor& matrix) {
  return contiguous(matrix.mutable_data_ptr(), dtype_of(matrix), matrix.size(0), matrix.size(1));
}

at::Tensor specified_input(const at::Tensor& x, const ops::PackOptions& options) {
  const SpecifiedInput input(x, options);
  const at::Tensor z =
      at::empty({input.arguments.x.rows, input.channels()}, x.options().device(at::kCPU));
  produce24(input.arguments, mutable_view(z));
  return z;
}

SpecifiedPack specified_pack(const at::Tensor& x, const ops::PackOptions& options) {
  const SpecifiedInput input(x, options);
  const std::int64_t tokens = input.arguments.x.rows, channels = input.channels();
  const at::TensorOptions type = x.options().device(at::kCPU);
  const SpecifiedPack packed{.values = at::empty({tokens, channels / 2}, type),
                             .metadata = at::empty({tokens, channels / 16}, at::kShort),
                             .scale = at::empty({tokens}, at::kFloat),
                             .low = at::empty({tokens, input.arguments.down.rows}, type)};
  pack24(input.arguments, arguments_of(packed));
  return packed;
}

at::Tensor kept_of(const SpecifiedPack& packed) {
  const at::Tensor kept =
      at::empty({packed.values.size(0), 2 * packed.values.size(1)}, packed.values.options());
  expand24(view(packed.values), words_of(packed.metadata), mutable_view(kept));
  return kept;
}

at::Tensor kept_of(const ops::Packed& packed, std::int64_t channels) {
  const at::Tensor operand = packed.operand.cpu();
  if (operand.scalar_type() != at::kByte) return rows_of(operand);
  const std::int64_t tokens = packed.scale.numel();
  const SpecifiedPack tiles{
      .values = at::empty({tokens, channels / 2}, packed.low.options().device(at::kCPU)),
      .metadata = at::empty({tokens, channels / 16}, at::kShort)};
  from_operand24(operand.const_data_ptr(), mutable_view(tiles.values), words_of(tiles.metadata));
  return kept_of(tiles);
}

SpecifiedPack as_specified(const ops::Packed& packed, std::int64_t channels) {
  const at::Tensor kept = kept_of(packed, channels);
  const SpecifiedPack result{.values = at::empty({kept.size(0), channels / 2}, kept.options()),
                             .metadata = at::empty({kept.size(0), channels / 16}, at::kShort),
                             .scale = packed.scale.cpu().flatten(),
                             .low = rows_of(packed.low)};
  compress24(view(kept),
             {.values = mutable_view(result.values), .metadata = words_of(result.metadata)});
  return result;
}

std::vector<at::Tensor> specified_product(const SpecifiedPack& packed,
                                          const std::vector<ops::ProductLayer>& layers) {
  std::vector<at::Tensor> held, results;
  std::vector<Product24> products;
  const auto take = [&](const at::Tensor& tensor) -> ConstMatrixView {
    if (!tensor.defined()) return {};
    held.push_back(rows_of(tensor));
    return view(held.back());
  };
  const std::int64_t tokens = packed.values.size(0);
  for (const ops::ProductLayer& layer : layers) {
    results.push_back(at::empty({tokens, layer.weight.size(0)}, packed.values.options()));
    const ConstMatrixView bias = take(layer.bias), gate = take(layer.gate);
    products.push_back({.weight = take(layer.weight),
                        .up = take(layer.up),
                        .low_column = layer.low_start,
                        .bias = bias.data,
                        .bias_dtype = bias.dtype,
                        .activation = layer.activation == ops::Activation::gelu ? Activation::gelu
                                                                                : Activation::none,
                        .gate = gate,
                        .image_tokens = gate.rows > 0 ? tokens / gate.rows : 0,
                        .residual = take(layer.residual),
                        .y = mutable_view(results.back())});
  }
  product24(arguments_of(packed), products);
  return results;
}

SpecifiedPack widened(const SpecifiedPack& packed) {
  SpecifiedPack wide = packed;
  wide.values = packed.values.to(at::kFloat);
  wide.low = packed.low.to(at::kFloat);
  return wide;
}

ops::ProductLayer widened(const ops::ProductLayer& layer) {
  ops::ProductLayer wide = layer;
  for (at::Tensor* tensor : {&wide.weight, &wide.up, &wide.bias, &wide.gate, &wide.residual}) {
    if (tensor->defined()) *tensor = tensor->to(at::kFloat);
  }
  return wide;
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const at::Tensor left = a.cpu().contiguous(), right = b.cpu().contiguous();
  return left.numel() == 0 ||
         std::memcmp(left.const_data_ptr(), right.const_data_ptr(), left.nbytes()) == 0;
}

double relative_error(const at::Tensor& value, const at::Tensor& exact) {
  const at::Tensor wide = exact.to(at::kDouble);
  return ((value.cpu().to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x1p-24;
    case DType::f16:
      return 0x1p-11;
    case DType::bf16:
      return 0x1p-8;
    case DType::e4m3:
      return 0x1p-4;
  }
  return 0.0;
}

}  // namespace rtlynx::testing
