// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/places.h"

namespace rtlynx {
namespace {

using testing::relative_error;
using testing::same_bits;

/// A call of pack.
struct Input {
  std::string name;
  at::Tensor x;
  ops::PackOptions options = {};

  std::int64_t channels() const { return x.size(-1) + (options.tail ? options.tail->size(-1) : 0); }
};

class OpsPack : public testing::PlaceTest {
 protected:
  static constexpr std::int64_t kImages = 3;

  /// Moments whose arithmetic is exact.
  static at::Tensor exact_moments(at::IntArrayRef leading) {
    const at::Tensor mean = at::randint(-1, 2, leading).to(at::kFloat);
    const at::Tensor rate = at::exp2(at::randint(-1, 1, leading).to(at::kFloat));
    return here(at::stack({mean, rate}, -1));
  }

  /// Every part of an input whose z is exact, with columns of low for two layers.
  static std::vector<Input> exact_inputs() {
    const auto options = [](std::int64_t channels, ops::PackOptions rest) {
      rest.down = integers({32, channels}, 1);
      rest.norm = false;
      return rest;
    };
    const ops::PackOptions whole_norm{.producer = "layer_norm",
                                      .moments = exact_moments({kImages, 43}),
                                      .weight = integers({208}),
                                      .scale = integers({kImages, 208}, 1),
                                      .shift = integers({kImages, 208})};
    std::vector<Input> inputs{
        {"none", integers({kImages, 43, 208}, 9), options(208, {})},
        {"tail", integers({5, 128}, 9), options(208, {.tail = integers({5, 80}, 9)})},
        {"norm", integers({kImages, 43, 208}), options(208, whole_norm)},
        {"shift alone", integers({kImages, 2, 48}),
         options(48, {.producer = "rms_norm",
                      .moments = exact_moments({kImages, 2}),
                      .shift = integers({kImages, 48})})},
        {"one image", integers({70, 48}),
         options(
             48,
             {.producer = "rms_norm", .moments = exact_moments({70}), .scale = integers({48}, 1)})},
    };
    for (const std::int64_t block : {16, 64, 128}) {
      inputs.push_back({"transform " + std::to_string(block), integers({67, 256}),
                        options(256, {.transform = integers({256 / block, block, block}, 1)})});
    }
    inputs.push_back({"norm and transform", integers({kImages, 43, 256}),
                      options(256, {.producer = "layer_norm",
                                    .moments = exact_moments({kImages, 43}),
                                    .scale = integers({kImages, 256}, 1),
                                    .transform = integers({4, 64, 64}, 1)})});
    return inputs;
  }

  /// Producers whose arithmetic rounds, with and without a transform behind them.
  static std::vector<Input> rounded_inputs() {
    std::vector<Input> inputs;
    const auto modulated = [](std::string producer) {
      return ops::PackOptions{.producer = std::move(producer),
                              .weight = normal({256}),
                              .scale = normal({kImages, 256}, 0.3),
                              .shift = normal({kImages, 256}, 0.3)};
    };
    const at::Tensor x = normal({kImages, 43, 256}, 1.5) + 0.2;
    for (const bool transforms : {false, true}) {
      for (ops::PackOptions options :
           {ops::PackOptions{.producer = "gelu"},
            ops::PackOptions{.producer = "swiglu", .up = normal({kImages, 43, 256})},
            ops::PackOptions{.producer = "layer_norm", .eps = 0.5}, modulated("layer_norm"),
            modulated("rms_norm")}) {
        if (transforms) options.transform = normal({4, 64, 64}, 0.125);
        options.down = normal({48, 256}, 0.0625);
        inputs.push_back({options.producer + (transforms ? " and transform" : ""), x, options});
      }
    }
    return inputs;
  }

  /// How far fp32 arithmetic in another order, and one rounding to the type, may take z.
  static at::Tensor slack_of(const at::Tensor& z, bool rounded_twice) {
    const at::Tensor magnitude = z.to(at::kDouble).abs();
    const at::Tensor largest = std::get<0>(magnitude.max(-1, /*keepdim=*/true));
    const double unit = 2.0 * testing::unit_roundoff(dtype());
    const at::Tensor sums = static_cast<double>(z.size(-1)) * 0x1p-24 * largest;
    // A producer's rounding in front of a transform reaches all outputs of the block.
    return (sums + unit * (rounded_twice ? largest : magnitude)).expand_as(z).contiguous();
  }

  /// `kept` [M, K] is what the rule keeps of some z' within `slack` of z.
  static void expect_selected(const at::Tensor& kept, const at::Tensor& z,
                              const at::Tensor& slack) {
    const at::Tensor exact = z.to(at::kDouble), values = kept.to(at::kDouble);
    const at::Tensor is_kept = values != 0;
    EXPECT_TRUE((is_kept.view({-1, 4}).sum(-1) <= 2).all().item<bool>());
    const at::Tensor error = at::where(is_kept, (values - exact).abs(), 0.0);
    EXPECT_TRUE((error <= slack).all().item<bool>()) << (error - slack).max();
    // The smallest that was kept is no smaller than the largest that was dropped.
    const at::Tensor magnitude = exact.abs().view({-1, 4}), room = slack.view({-1, 4});
    const at::Tensor in_groups = is_kept.view({-1, 4});
    const at::Tensor smallest = std::get<0>(at::where(in_groups, magnitude + room, 1e30).min(-1));
    const at::Tensor largest = std::get<0>(at::where(in_groups, 0.0, magnitude - room).max(-1));
    EXPECT_TRUE((largest <= smallest).all().item<bool>()) << (largest - smallest).max();
  }
};

TEST_P(OpsPack, GivesTheSpecifiedBitsWhereArithmeticIsExact) {
  for (const auto& [name, x, options] : exact_inputs()) {
    SCOPED_TRACE(name);
    const testing::SpecifiedPack expected = testing::specified_pack(x, options);
    const ops::Packed packed = ops::pack(x, options);
    std::vector<std::int64_t> shape = x.sizes().vec();
    const std::int64_t channels = Input{name, x, options}.channels();
    EXPECT_TRUE(same_bits(testing::kept_of(packed, channels), testing::kept_of(expected)));
    shape.back() = 32;
    EXPECT_EQ(packed.low.sizes(), at::IntArrayRef(shape));
    EXPECT_TRUE(same_bits(testing::rows_of(packed.low), expected.low));
    shape.pop_back();
    EXPECT_TRUE(same_bits(packed.scale, at::ones(shape)));
  }
}

TEST_P(OpsPack, RestoresTheNorm) {
  const at::Tensor x = normal({130, 3072});
  const ops::PackOptions options{.down = normal({64, 3072}, 0.02)};
  const testing::SpecifiedPack expected = testing::specified_pack(x, options);
  const ops::Packed packed = ops::pack(x, options);
  EXPECT_TRUE(same_bits(testing::kept_of(packed, 3072), testing::kept_of(expected)));
  EXPECT_TRUE(at::allclose(packed.scale.cpu(), expected.scale, /*rtol=*/1e-5, /*atol=*/0));
  // One rounding here, one there, and two orders of a sum of 3072.
  EXPECT_LE(relative_error(packed.low, expected.low),
            2 * testing::unit_roundoff(dtype()) + 3072 * 0x1p-24);
}

TEST_P(OpsPack, SelectsWhatProducersGive) {
  for (const auto& [name, x, options] : rounded_inputs()) {
    SCOPED_TRACE(name);
    const at::Tensor z = testing::specified_input(x, options);
    const testing::SpecifiedPack expected = testing::specified_pack(x, options);
    const ops::Packed packed = ops::pack(x, options);
    const bool twice = options.transform.has_value() && dtype() != DType::f32;
    expect_selected(testing::kept_of(packed, 256), z, slack_of(z, twice));
    const double unit = 2 * testing::unit_roundoff(dtype()) + 256 * 0x1p-24;
    EXPECT_LE(relative_error(packed.scale.flatten(), expected.scale), unit);
    EXPECT_LE(relative_error(testing::rows_of(packed.low), expected.low), unit);
  }
}

TEST_P(OpsPack, TakesTheMomentsThatResidualNormGives) {
  if (on_gpu() && dtype() == DType::f32) GTEST_SKIP() << "the GPU's row kernels take 16 bits";
  const at::Tensor x = normal({2, 30, 128});
  for (const std::string norm : {"layer", "rms"}) {
    const at::Tensor moments = ops::residual_norm(x, {.norm = norm, .eps = 0.25}).moments;
    const ops::Packed computed = ops::pack(x, {.producer = norm + "_norm", .eps = 0.25});
    const ops::Packed given = ops::pack(x, {.producer = norm + "_norm", .moments = moments});
    EXPECT_LE(relative_error(testing::kept_of(given, 128), testing::kept_of(computed, 128)),
              testing::unit_roundoff(dtype()));
  }
}

TEST_P(OpsPack, TakesAnyRankAndStrides) {
  const at::Tensor x = normal({2, 33, 64});
  const ops::PackOptions options{.producer = "swiglu",
                                 .up = normal({2, 33, 64}),
                                 .transform = normal({4, 16, 16}),
                                 .down = normal({16, 64})};
  const ops::Packed expected = ops::pack(x, options);
  for (const auto view : {testing::transposed, testing::shifted, testing::spaced}) {
    const ops::Packed packed = ops::pack(view(x), {.producer = "swiglu",
                                                   .up = view(*options.up),
                                                   .transform = view(*options.transform),
                                                   .down = view(*options.down)});
    EXPECT_TRUE(same_bits(packed.operand, expected.operand));
    EXPECT_TRUE(same_bits(packed.scale, expected.scale));
    EXPECT_TRUE(same_bits(packed.low, expected.low));
  }
  const ops::Packed token = ops::pack(x[1][2]);
  EXPECT_EQ(token.scale.dim(), 0);
  EXPECT_TRUE(
      same_bits(testing::kept_of(token, 64), testing::kept_of(ops::pack(x), 64).slice(0, 35, 36)));
}

TEST_P(OpsPack, TakesNoTokens) {
  const at::Tensor none = normal({2, 0, 128});
  const at::Tensor no_moments = here(at::empty({2, 0, 2}));
  for (const ops::PackOptions& options :
       {ops::PackOptions{}, ops::PackOptions{.tail = normal({2, 0, 16})},
        ops::PackOptions{.producer = "gelu"}, ops::PackOptions{.producer = "swiglu", .up = none},
        ops::PackOptions{.producer = "layer_norm"},
        ops::PackOptions{.producer = "rms_norm", .moments = no_moments},
        ops::PackOptions{.transform = normal({2, 64, 64}), .down = normal({16, 128})}}) {
    const ops::Packed packed = ops::pack(none, options);
    EXPECT_EQ(packed.scale.sizes(), at::IntArrayRef({2, 0}));
    EXPECT_EQ(packed.low.sizes(), at::IntArrayRef({2, 0, options.down ? 16 : 0}));
  }
}

RTLYNX_IN_PLACES(OpsPack);

}  // namespace
}  // namespace rtlynx
