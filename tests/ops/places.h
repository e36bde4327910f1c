// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "ops/samples.h"
#include "ops/specification.h"

namespace rtlynx::testing {

/// A type on a device. The operators give the same on every one.
struct Place {
  DType dtype;
  bool gpu;
};

inline std::string name_of(const ::testing::TestParamInfo<Place>& info) {
  return std::string(info.param.gpu ? "OnGpu_" : "OnCpu_") + rtlynx::name_of(info.param.dtype);
}

/// Once for each place; skipped, with the reason, where there is no GPU.
class PlaceTest : public ::testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    if (on_gpu() && !at::globalContext().hasCUDA()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(1);
  }

  static DType dtype() { return GetParam().dtype; }
  static bool on_gpu() { return GetParam().gpu; }
  static at::Tensor here(const at::Tensor& tensor) {
    return on_gpu() ? tensor.to(at::kCUDA) : tensor;
  }
  static at::Tensor normal(at::IntArrayRef shape, double deviation = 1.0) {
    return here((deviation * at::randn(shape)).to(scalar_type(dtype())));
  }
  /// Small integers: sums are exact in fp32, so all orders of summation agree to the last bit.
  static at::Tensor integers(at::IntArrayRef shape, int largest = 2) {
    return here(at::randint(-largest, largest + 1, shape).to(scalar_type(dtype())));
  }
  static at::Tensor fp32(const at::Tensor& tensor) { return tensor.to(at::kFloat); }
};

/// The same values, the last two dimensions exchanged in memory.
inline at::Tensor transposed(const at::Tensor& tensor) {
  return tensor.dim() < 2 ? tensor : tensor.mT().contiguous().mT();
}

/// The same values, one element behind an address that torch aligned.
inline at::Tensor shifted(const at::Tensor& tensor) {
  at::Tensor room = at::empty({tensor.numel() + 1}, tensor.options());
  return room.slice(0, 1).view(tensor.sizes()).copy_(tensor);
}

/// The same values, with room behind each row.
inline at::Tensor spaced(const at::Tensor& tensor) {
  std::vector<std::int64_t> wide = tensor.sizes().vec();
  const std::int64_t columns = wide.back();
  wide.back() += 16;
  return at::zeros(wide, tensor.options()).narrow(-1, 0, columns).copy_(tensor);
}

#define RTLYNX_IN_PLACES(Suite)                                                               \
  INSTANTIATE_TEST_SUITE_P(                                                                   \
      Places, Suite,                                                                          \
      ::testing::Values(testing::Place{DType::f32, false}, testing::Place{DType::f16, false}, \
                        testing::Place{DType::bf16, false}, testing::Place{DType::f32, true}, \
                        testing::Place{DType::f16, true}, testing::Place{DType::bf16, true}), \
      testing::name_of)

}  // namespace rtlynx::testing
