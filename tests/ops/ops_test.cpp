// SPDX-License-Identifier: Apache-2.0
#include "ops/ops.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "ops/samples.h"
#include "rtlynx/linear24.h"
#include "rtlynx/pack24.h"

namespace rtlynx {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::kTypes;

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return at::kFloat;
    case DType::f16:
      return at::kHalf;
    case DType::bf16:
      return at::kBFloat16;
  }
  return at::kFloat;
}

at::Tensor random_tensor(at::IntArrayRef shape, DType dtype) {
  return at::randn(shape).to(scalar_type(dtype));
}

at::Tensor adversarial(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed) {
  const auto bytes = testing::adversarial_rows(dtype, rows, columns, seed);
  at::Tensor tensor = at::empty({rows, columns}, scalar_type(dtype));
  if (!bytes.empty()) std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

ConstMatrixView view(const at::Tensor& matrix, DType dtype) {
  return contiguous(matrix.const_data_ptr(), dtype, matrix.size(0), matrix.size(1));
}

MatrixView mutable_view(const at::Tensor& matrix, DType dtype) {
  return contiguous(matrix.mutable_data_ptr(), dtype, matrix.size(0), matrix.size(1));
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() && a.is_contiguous() &&
         b.is_contiguous() &&
         (a.numel() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
}

/// The specification's answer for a contiguous X [M, K].
struct Expected {
  at::Tensor values, metadata, scale, kept;
};

Expected specification(const at::Tensor& x, DType dtype) {
  const std::int64_t rows = x.size(0), columns = x.size(1);
  Expected result{.values = at::empty({rows, columns / 2}, x.options()),
                  .metadata = at::empty({rows, columns / 16}, at::kShort),
                  .scale = at::empty({rows}, at::kFloat),
                  .kept = at::empty_like(x)};
  auto* const words = reinterpret_cast<std::uint16_t*>(result.metadata.mutable_data_ptr());
  rtlynx::pack24(view(x, dtype), {.values = mutable_view(result.values, dtype),
                                  .metadata = words,
                                  .scale = result.scale.mutable_data_ptr<float>()});
  rtlynx::unpack24(view(result.values, dtype), words, mutable_view(result.kept, dtype));
  return result;
}

/// The message of the Error that `call` throws.
std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no rtlynx::Error was thrown";
}

class OpsTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override { at::manual_seed(1); }
};

TEST_P(OpsTest, SparsifyAndPackGiveTheSpecifiedBits) {
  // Enough rows for several threads, and a count that no range divides.
  for (const auto& x : {adversarial(GetParam(), 997, 192, 1), adversarial(GetParam(), 3, 16, 2),
                        adversarial(GetParam(), 0, 32, 3), adversarial(GetParam(), 5, 0, 4),
                        random_tensor({130, 3072}, GetParam())}) {
    const Expected expected = specification(x, GetParam());
    const auto [kept, scale] = ops::sparsify24(x);
    EXPECT_TRUE(same_bits(kept, expected.kept)) << x.sizes();
    EXPECT_TRUE(at::allclose(scale, expected.scale, /*rtol=*/1e-5, /*atol=*/0)) << x.sizes();

    const auto [values, metadata, pack_scale] = ops::pack24(x);
    EXPECT_TRUE(same_bits(values, expected.values)) << x.sizes();
    EXPECT_TRUE(same_bits(metadata, expected.metadata)) << x.sizes();
    EXPECT_TRUE(same_bits(pack_scale, expected.scale)) << x.sizes();
    EXPECT_TRUE(same_bits(ops::unpack24(values, metadata), expected.kept)) << x.sizes();
  }
}

TEST_P(OpsTest, SparsifyWithoutNormReturnsOnes) {
  const auto [kept, scale] = ops::sparsify24(random_tensor({7, 32}, GetParam()), false);
  EXPECT_TRUE(at::equal(scale, at::ones({7})));
}

TEST_P(OpsTest, TakesAnyRankAndStrides) {
  const at::Tensor base = random_tensor({6, 40, 5}, GetParam());
  const at::Tensor views[] = {
      base.transpose(1, 2),                                        // strided channels
      base.transpose(1, 2)[2][3],                                  // one token
      base.permute({2, 0, 1}),                                     // every dimension moved
      base.flatten().slice(0, 1, 1 + 4 * 48).view({2, 2, 1, 48}),  // not on a vector boundary
  };
  for (const at::Tensor& x : views) {
    const at::Tensor flat = x.contiguous().view({-1, x.size(-1)});
    const auto [kept, scale] = ops::sparsify24(x);
    const auto [flat_kept, flat_scale] = ops::sparsify24(flat);
    EXPECT_EQ(kept.sizes(), x.sizes());
    EXPECT_TRUE(same_bits(kept.view_as(flat), flat_kept));
    EXPECT_TRUE(same_bits(scale, flat_scale));

    const ops::Linear24Weights weights{.weight = random_tensor({x.size(-1), 12}, GetParam()).t()};
    const at::Tensor y = ops::linear24(x, weights);
    auto shape = x.sizes().vec();
    shape.back() = 12;
    EXPECT_EQ(y.sizes(), at::IntArrayRef(shape));
    EXPECT_TRUE(same_bits(y.view({-1, 12}), ops::linear24(flat, weights)));
  }
}

double relative_error(const at::Tensor& value, const at::Tensor& exact) {
  return ((value.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

TEST_P(OpsTest, LinearIsAsExactAsADenseLayerOfItsType) {
  const std::int64_t m = 45, k = 256, n = 72, rank = 16;
  const at::Tensor x = random_tensor({m, k}, GetParam());
  const at::Tensor weight = random_tensor({n, k}, GetParam());
  const at::Tensor bias = random_tensor({n}, GetParam());
  const at::Tensor down = random_tensor({rank, k}, GetParam()) * 0.1;
  const at::Tensor up = random_tensor({n, rank}, GetParam()) * 0.1;
  const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
  const double dense_error =
      relative_error(at::linear(x, weight, bias), at::linear(wide(x), wide(weight), wide(bias)));

  const at::Tensor kept = wide(specification(x, GetParam()).kept);
  for (const bool norm : {false, true}) {
    const at::Tensor s =
        norm ? wide(x).norm(2, 1, true) / kept.norm(2, 1, true) : at::ones({m, 1}, at::kDouble);
    for (const bool with_lora : {false, true}) {
      for (const bool with_bias : {false, true}) {
        at::Tensor exact = s * kept.matmul(wide(weight).t());
        if (with_lora) exact += wide(x).matmul(wide(down).t()).matmul(wide(up).t());
        if (with_bias) exact += wide(bias);
        ops::Linear24Weights weights{.weight = weight};
        if (with_bias) weights.bias = bias;
        if (with_lora) weights.lora_down = down;
        if (with_lora) weights.lora_up = up;
        const at::Tensor y = ops::linear24(x, weights, norm);
        EXPECT_EQ(y.scalar_type(), scalar_type(GetParam()));
        EXPECT_LE(relative_error(y, exact), 2 * dense_error)
            << "norm " << norm << " lora " << with_lora << " bias " << with_bias;
      }
    }
  }
}

TEST_P(OpsTest, LinearAgreesWithTheSpecification) {
  const std::int64_t m = 9, k = 48, n = 20, rank = 4;
  // Small integers: every sum is exact in fp32, so all orders of summation agree to the last bit.
  const auto integers = [](at::IntArrayRef shape, DType dtype) {
    return at::randint(-3, 4, shape).to(scalar_type(dtype));
  };
  const at::Tensor x = integers({m, k}, GetParam());
  const at::Tensor weight = integers({n, k}, GetParam());
  const at::Tensor bias = integers({n}, GetParam());
  const at::Tensor down = integers({rank, k}, GetParam());
  const at::Tensor up = integers({n, rank}, GetParam());
  const at::Tensor wide_bias = bias.to(at::kFloat);
  at::Tensor expected = at::empty({m, n}, x.options());
  rtlynx::linear24({.x = view(x, GetParam()),
                    .weight = view(weight, GetParam()),
                    .down = view(down, GetParam()),
                    .up = view(up, GetParam()),
                    .bias = wide_bias.const_data_ptr<float>(),
                    .norm = false},
                   mutable_view(expected, GetParam()));
  const ops::Linear24Weights weights{
      .weight = weight, .bias = bias, .lora_down = down, .lora_up = up};
  EXPECT_TRUE(same_bits(ops::linear24(x, weights, false), expected));
}

TEST_P(OpsTest, AutoIsLinearOnTheCpu) {
  const at::Tensor x = random_tensor({7, 64}, GetParam());
  const ops::Linear24Weights weights{.weight = random_tensor({24, 64}, GetParam()),
                                     .bias = random_tensor({24}, GetParam()),
                                     .lora_down = random_tensor({16, 64}, GetParam()),
                                     .lora_up = random_tensor({24, 16}, GetParam())};
  for (const bool norm : {false, true}) {
    EXPECT_TRUE(same_bits(ops::linear24_auto(x, weights, norm), ops::linear24(x, weights, norm)));
  }
}

TEST_P(OpsTest, LinearTakesEmptyTensors) {
  const auto empty = [](at::IntArrayRef shape) {
    return at::empty(shape, scalar_type(GetParam()));
  };
  EXPECT_EQ(ops::linear24(empty({0, 3, 16}), {.weight = empty({8, 16})}).sizes(),
            at::IntArrayRef({0, 3, 8}));
  EXPECT_EQ(ops::linear24(empty({5, 16}), {.weight = empty({0, 16})}).sizes(),
            at::IntArrayRef({5, 0}));
  const at::Tensor bias = random_tensor({8}, GetParam());
  // Nothing to sum: the bias remains.
  EXPECT_TRUE(at::equal(ops::linear24(empty({2, 0}), {.weight = empty({8, 0}), .bias = bias}),
                        bias.expand({2, 8})));
  // A low-rank term of rank 0 is none.
  const at::Tensor x = random_tensor({4, 16}, GetParam());
  const at::Tensor weight = random_tensor({8, 16}, GetParam());
  EXPECT_TRUE(same_bits(
      ops::linear24(x, {.weight = weight, .lora_down = empty({0, 16}), .lora_up = empty({8, 0})}),
      ops::linear24(x, {.weight = weight})));
}

INSTANTIATE_TEST_SUITE_P(Types, OpsTest, ::testing::ValuesIn(kTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

TEST(OpsErrors, NameTheOperatorAndWhatArrived) {
  EXPECT_THAT(error_of([] {
                ops::sparsify24(at::ones({2, 6}));
              }),
              AllOf(HasSubstr("sparsify24: required"), HasSubstr("divisible by 4"),
                    HasSubstr("f32 [2, 6] on cpu")));
  EXPECT_THAT(error_of([] {
                ops::pack24(at::ones({2, 24}));
              }),
              AllOf(HasSubstr("pack24: required"), HasSubstr("divisible by 16")));
  EXPECT_THAT(error_of([] {
                ops::sparsify24(at::ones({2, 8}, at::kDouble));
              }),
              AllOf(HasSubstr("f32, f16 or bf16"), HasSubstr("Double [2, 8]")));
  EXPECT_THAT(error_of([] { ops::sparsify24(at::ones({})); }), HasSubstr("one dimension"));
}

TEST(OpsErrors, Unpack) {
  const at::Tensor values = at::ones({3, 16});
  EXPECT_THAT(error_of([&] {
                ops::unpack24(values, at::zeros({3, 1}, at::kShort));
              }),
              AllOf(HasSubstr("unpack24"), HasSubstr("[3, 2]"), HasSubstr("Short [3, 1]")));
  EXPECT_THAT(error_of([&] {
                ops::unpack24(values, at::zeros({3, 2}, at::kInt));
              }),
              HasSubstr("Int [3, 2]"));
  at::Tensor metadata = std::get<1>(ops::pack24(at::ones({3, 32})));
  metadata[2][1] = 0;  // no group keeps channel 0 twice
  EXPECT_THAT(error_of([&] { ops::unpack24(values, metadata); }), HasSubstr("row 2"));
}

TEST(OpsErrors, Linear) {
  const at::Tensor x = at::ones({2, 3, 16});
  const at::Tensor weight = at::ones({8, 16});
  const auto message = [&](const ops::Linear24Weights& weights) {
    return error_of([&] { ops::linear24(x, weights); });
  };
  EXPECT_THAT(message({.weight = at::ones({8, 12})}),
              AllOf(HasSubstr("linear24: required weight f32 [8, 16]"), HasSubstr("[8, 12]")));
  EXPECT_THAT(message({.weight = at::ones({16})}), HasSubstr("weight [N, K]"));
  EXPECT_THAT(error_of([&] {
                ops::linear24_auto(x, {.weight = at::ones({8, 12})});
              }),
              HasSubstr("linear24_auto: required weight f32 [8, 16]"));
  EXPECT_THAT(message({.weight = weight.to(at::kHalf)}), HasSubstr("got f16 [8, 16]"));
  EXPECT_THAT(message({.weight = weight, .bias = at::ones({9})}),
              AllOf(HasSubstr("bias f32 [8]"), HasSubstr("got f32 [9]")));
  const at::Tensor down = at::ones({4, 16});
  EXPECT_THAT(message({.weight = weight, .lora_down = down}), HasSubstr("got lora_down alone"));
  EXPECT_THAT(message({.weight = weight, .lora_up = at::ones({8, 4})}),
              HasSubstr("got lora_up alone"));
  EXPECT_THAT(message({.weight = weight, .lora_down = down, .lora_up = at::ones({8, 5})}),
              AllOf(HasSubstr("lora_up f32 [8, 4]"), HasSubstr("[8, 5]")));
  EXPECT_THAT(
      message({.weight = weight, .lora_down = at::ones({4, 20}), .lora_up = at::ones({8, 4})}),
      HasSubstr("lora_down f32 [4, 16]"));
}

}  // namespace
}  // namespace rtlynx
