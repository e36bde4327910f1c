// SPDX-License-Identifier: Apache-2.0
// What the operators refuse, before any work: which operator, what it required, what arrived.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "refusal.h"

namespace rtlynx {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// A call that is refused.
struct Refused {
  std::function<void()> call;
  std::string required;
  std::string got;
};

void expect_refused(const std::string& op, const std::vector<Refused>& cases) {
  for (const auto& [call, required, got] : cases) {
    EXPECT_THAT(refusal(call),
                AllOf(StartsWith(op + ": required " + required), HasSubstr("got " + got)));
  }
}

at::Tensor ones(at::IntArrayRef shape, at::ScalarType type = at::kFloat) {
  return at::ones(shape, type);
}

TEST(OpsErrors, Sparsify) {
  expect_refused("sparsify24",
                 {{[] {
                     ops::sparsify24(ones({2, 6}));
                   },
                   "channels divisible by 4", "6"},
                  {[] {
                     ops::sparsify24(ones({2, 8}, at::kDouble));
                   },
                   "f32, f16 or bf16", "Double [2, 8] on cpu"},
                  {[] { ops::sparsify24(ones({})); }, "at least one dimension", "f32 [] on cpu"}});
}

TEST(OpsErrors, Pack) {
  const at::Tensor x = ones({2, 3, 64});
  const auto call = [x](ops::PackOptions options) {
    return [x, options] { ops::pack(x, options); };
  };
  const auto norm = [&](ops::PackOptions options) {
    options.producer = "layer_norm";
    return call(options);
  };
  expect_refused(
      "pack",
      {{[] {
          ops::pack(ones({2, 24}));
        },
        "channels divisible by 16", "24"},
       {[] {
          ops::pack(ones({2, 0}));
        },
        "channels K of 16 or more", "f32 [2, 0] on cpu"},
       {[] { ops::pack(ones({})); }, "at least one dimension", "f32 [] on cpu"},
       {[] {
          ops::pack(ones({2, 16}, at::kInt));
        },
        "f32, f16 or bf16", "Int [2, 16] on cpu"},
       {call({.producer = "relu"}), "a producer none, gelu, swiglu, layer_norm or rms_norm",
        "relu"},
       // tail
       {call({.tail = ones({2, 3, 16})}), "channels of X before a tail, a multiple of 128", "64"},
       {call({.tail = ones({5, 16})}), "tail [6, 16] f32", "tail [5, 16] f32"},
       {call({.tail = ones({2, 3, 16}, at::kHalf)}), "tail of type f32 on cpu",
        "f16 [2, 3, 16] on cpu"},
       {[] {
          ops::pack(ones({2, 128}), {.tail = ones({2, 16}), .producer = "gelu"});
        },
        "no producer beside a tail", "one"},
       // up
       {call({.producer = "swiglu"}), "up [6, 64] f32", "up [0, 0] f32"},
       {call({.producer = "swiglu", .up = ones({2, 3, 32})}), "up [6, 64] f32", "up [6, 32] f32"},
       {call({.producer = "swiglu", .up = ones({2, 3, 64}, at::kBFloat16)}),
        "up of type f32 on cpu", "bf16 [2, 3, 64] on cpu"},
       {call({.producer = "gelu", .up = x}), "up with producer swiglu alone", "producer gelu"},
       // norms
       {norm({.moments = ones({2, 3, 3})}), "moments of 2 numbers for each of 6 tokens",
        "f32 [2, 3, 3] on cpu"},
       {norm({.moments = ones({2, 3, 2}, at::kHalf)}), "moments of type f32 on cpu",
        "f16 [2, 3, 2] on cpu"},
       {norm({.weight = ones({63})}), "weight [64]", "f32 [63] on cpu"},
       {norm({.weight = ones({64}, at::kHalf)}), "weight of type f32 on cpu", "f16 [64] on cpu"},
       {norm({.scale = ones({2, 32})}), "modulation_scale [2, 64] f32",
        "modulation_scale [2, 32] f32"},
       {norm({.scale = ones({4, 64})}),
        "scale of one row for every image of equally many of the 6 tokens", "4 rows"},
       {norm({.scale = ones({2, 64}), .shift = ones({3, 64})}), "shift of 2 rows", "3"},
       {call({.moments = ones({2, 3, 2})}), "moments with producers layer_norm and rms_norm alone",
        "producer none"},
       {call({.weight = ones({64})}), "weight with producers", "producer none"},
       {call({.scale = ones({64})}), "scale with producers", "producer none"},
       {call({.shift = ones({64})}), "shift with producers", "producer none"},
       // transform
       {call({.transform = ones({2, 32, 32})}), "a transform block of 16, 64 or 128", "32"},
       {call({.transform = ones({1, 32, 32})}), "a transform [K / block, block, block] for K = 64",
        "f32 [1, 32, 32] on cpu"},
       {call({.transform = ones({64, 64})}), "a transform [K / block, block, block]",
        "f32 [64, 64] on cpu"},
       {call({.transform = ones({4, 16, 16}, at::kHalf)}), "transform of type f32 on cpu",
        "f16 [4, 16, 16] on cpu"},
       // down
       {call({.down = ones({16, 32})}), "down [16, 64] f32", "down [16, 32] f32"},
       {call({.down = ones({16, 64}, at::kHalf)}), "down of type f32 on cpu",
        "f16 [16, 64] on cpu"}});
}

class OpsErrorsProduct : public ::testing::Test {
 protected:
  using Change = std::function<void(ops::Packed&, std::vector<ops::ProductLayer>&)>;

  /// A good call of two layers, changed.
  static std::function<void()> changed(const Change& change) {
    return [change] {
      ops::Packed packed = ops::pack(ones({2, 3, 32}), {.down = ones({16, 32})});
      std::vector<ops::ProductLayer> layers(
          2, {.weight = ones({8, 32}), .up = ones({8, 8}), .bias = ones({8})});
      layers[1].low_start = 8;
      change(packed, layers);
      ops::product(packed, layers);
    };
  }
  static std::function<void()> first(const std::function<void(ops::ProductLayer&)>& change) {
    return changed([change](ops::Packed&, auto& layers) { change(layers.front()); });
  }
};

TEST_F(OpsErrorsProduct, Layers) {
  using Layer = ops::ProductLayer;
  EXPECT_EQ(refusal(changed([](auto&, auto&) {})), "accepted");
  expect_refused(
      "product",
      {{changed([](auto&, auto& layers) { layers.clear(); }), "1 to 4 weights", "0"},
       {changed([](auto&, auto& layers) { layers.resize(5, layers[0]); }), "1 to 4 weights", "5"},
       {first([](Layer& layer) {
          layer.weight = ones({8, 16});
        }),
        "weight [8, 32] f32", "weight [8, 16] f32"},
       {first([](Layer& layer) { layer.weight = ones({32}); }), "a weight [N, K]",
        "f32 [32] on cpu"},
       {first([](Layer& layer) {
          layer.weight = ones({0, 32});
        }),
        "a weight [N, K], N and K at least 1", "f32 [0, 32] on cpu"},
       {first([](Layer& layer) {
          layer.weight = ones({8, 32}, at::kHalf);
        }),
        "weight of type f32 on cpu", "f16 [8, 32] on cpu"},
       {first([](Layer& layer) {
          layer.up = ones({9, 8});
        }),
        "up [8, 8] f32", "up [9, 8] f32"},
       {first([](Layer& layer) {
          layer.up = ones({8, 8}, at::kHalf);
        }),
        "up of type f32 on cpu", "f16 [8, 8] on cpu"},
       {first([](Layer& layer) { layer.low_start = 9; }), "columns of low inside its 16",
        "8 from column 9"},
       {first([](Layer& layer) { layer.low_start = -1; }), "columns of low inside its 16",
        "8 from column -1"},
       {first([](Layer& layer) { layer.bias = ones({9}); }), "a bias [8]", "f32 [9] on cpu"},
       {first([](Layer& layer) { layer.bias = ones({8}, at::kHalf); }), "bias of type f32 on cpu",
        "f16 [8] on cpu"},
       {first([](Layer& layer) { layer.activation = static_cast<ops::Activation>(2); }),
        "an activation of 0 (none) or 1 (GELU)", "2"},
       {first([](Layer& layer) {
          layer.gate = ones({4, 8});
        }),
        "gate of one row for every image of equally many of the 6 tokens", "4 rows"},
       {first([](Layer& layer) {
          layer.gate = ones({2, 9});
        }),
        "gate [2, 8] f32", "gate [2, 9] f32"},
       {first([](Layer& layer) {
          layer.residual = ones({2, 3, 9});
        }),
        "residual [6, 8] f32", "residual [6, 9] f32"},
       {first([](Layer& layer) {
          layer.residual = ones({2, 8});
        }),
        "residual [6, 8] f32", "residual [2, 8] f32"}});
}

TEST_F(OpsErrorsProduct, PackedInputOfAnotherShape) {
  const std::string operand = "an operand that pack gave with scale and low";
  expect_refused("product", {{changed([](auto& packed, auto&) {
                                packed.operand = ops::pack(ones({2, 4, 32})).operand;
                              }),
                              operand, "f32 [2, 4, 32] on cpu"},
                             {changed([](auto& packed, auto&) {
                                packed.operand = ones({2, 3, 32}, at::kHalf);
                              }),
                              operand, "f16 [2, 3, 32] on cpu"},
                             {changed([](auto& packed, auto&) {
                                packed.operand = ones({2, 3, 16});
                              }),
                              "weight [8, 16] f32", "weight [8, 32] f32"},
                             {changed([](auto& packed, auto&) { packed.scale = ones({1}); }),
                              "a low of the same tokens as scale [1]", "f32 [2, 3, 16] on cpu"},
                             {changed([](auto& packed, auto&) {
                                packed.scale = ones({2, 3}, at::kHalf);
                              }),
                              "scale of type f32 on cpu", "f16 [2, 3] on cpu"},
                             {changed([](auto& packed, auto&) {
                                packed.low = ones({6, 16});
                              }),
                              "a low of the same tokens as scale [2, 3]", "f32 [6, 16] on cpu"},
                             {changed([](auto& packed, auto&) {
                                packed.low = ones({2, 3, 8});
                              }),
                              "columns of low inside its 8", "8 from column 8"}});
}

TEST(OpsErrors, ProductOut) {
  const ops::Packed packed = ops::pack(ones({2, 3, 32}));
  const auto into = [&](const std::vector<at::Tensor>& out) {
    return [packed, out] { ops::product_out(packed, {{.weight = ones({8, 32})}}, out); };
  };
  expect_refused("product_out", {{into({}), "1 tensors to write to", "0"},
                                 {into({ones({2, 3, 9})}), "out [2, 3, 8]", "f32 [2, 3, 9] on cpu"},
                                 {into({ones({6, 8})}), "out [2, 3, 8]", "f32 [6, 8] on cpu"},
                                 {into({ones({2, 3, 8}, at::kHalf)}), "out of type f32 on cpu",
                                  "f16 [2, 3, 8] on cpu"}});
}

TEST(OpsErrors, Linear) {
  const auto call = [](ops::Linear24Weights weights) {
    return [weights] { ops::linear24(ones({2, 3, 16}), weights); };
  };
  const at::Tensor weight = ones({8, 16}), down = ones({4, 16});
  expect_refused("linear24",
                 {{[weight] {
                     ops::linear24(ones({2, 24}), {.weight = weight});
                   },
                   "channels divisible by 16", "24"},
                  {call({.weight = ones({8, 12})}), "weight [8, 16] f32", "weight [8, 12] f32"},
                  {call({.weight = ones({16})}), "a weight [N, K]", "f32 [16] on cpu"},
                  {call({.weight = ones({8, 16}, at::kHalf)}), "weight of type f32 on cpu",
                   "f16 [8, 16] on cpu"},
                  {call({.weight = weight, .bias = ones({9})}), "a bias [8]", "f32 [9] on cpu"},
                  {call({.weight = weight, .lora_down = down}),
                   "lora_down and lora_up together or neither", "lora_down alone"},
                  {call({.weight = weight, .lora_up = ones({8, 4})}),
                   "lora_down and lora_up together or neither", "lora_up alone"},
                  {call({.weight = weight, .lora_down = ones({4, 20}), .lora_up = ones({8, 4})}),
                   "down [4, 16] f32", "down [4, 20] f32"},
                  {call({.weight = weight, .lora_down = down, .lora_up = ones({8, 5})}),
                   "columns of low inside its 4", "5 from column 0"},
                  {call({.weight = weight, .lora_down = down, .lora_up = ones({9, 4})}),
                   "up [8, 4] f32", "up [9, 4] f32"}});
}

TEST(OpsErrors, ResidualNorm) {
  const at::Tensor x = ones({2, 3, 16});
  const auto call = [x](ops::ResidualNormOptions options) {
    return [x, options] { ops::residual_norm(x, options); };
  };
  expect_refused(
      "residual_norm",
      {{[] {
          ops::residual_norm(ones({2, 8}, at::kDouble), {});
        },
        "f32, f16 or bf16", "Double [2, 8] on cpu"},
       {call({.y = ones({2, 3, 8})}), "Y [6, 16] f32", "Y [6, 8] f32"},
       {call({.y = ones({2, 3, 16}, at::kHalf)}), "y of type f32 on cpu", "f16 [2, 3, 16] on cpu"},
       {call({.y = x, .gate = ones({4, 16})}), "gate of one row for every image", "4 rows"},
       {call({.y = x, .gate = ones({2, 8})}), "gate [2, 16] f32", "gate [2, 8] f32"},
       {call({.y = x, .gate = ones({2, 16}), .scale = ones({3, 16})}), "scale of 2 rows", "3"},
       {call({.y = x, .post_weight = ones({8})}), "post_weight [16]", "f32 [8] on cpu"},
       {call({.weight = ones({8})}), "weight [16]", "f32 [8] on cpu"},
       {call({.norm = "batch"}), "a norm layer or rms", "batch"},
       {call({.shift = ones({2, 8})}), "shift [2, 16] f32", "shift [2, 8] f32"}});
}

TEST(OpsErrors, Swiglu) {
  const at::Tensor gate = ones({2, 3, 16});
  const auto call = [gate](const at::Tensor& up) { return [=] { ops::swiglu(gate, up); }; };
  expect_refused(
      "swiglu",
      {{call(ones({2, 3, 8})), "up of the shape of gate, f32 [2, 3, 16]", "f32 [2, 3, 8] on cpu"},
       {call(ones({6, 16})), "up of the shape of gate", "f32 [6, 16] on cpu"},
       {call(ones({2, 3, 16}, at::kHalf)), "up of type f32 on cpu", "f16 [2, 3, 16] on cpu"}});
}

TEST(OpsErrors, HeadNorm) {
  const at::Tensor q = ones({2, 3, 32});
  const auto call = [](ops::HeadStreams streams, ops::OptionalTensor rotation = {},
                       std::int64_t head_dim = 16) {
    return [=] { ops::head_norm(streams, rotation, head_dim); };
  };
  const std::string streams =
      "q and k of one stream or two, and v and weights for none or all of them";
  expect_refused(
      "head_norm",
      {{call({.q = {q, q, q}, .k = {q, q, q}}), streams, "3 q, 3 k, 0 v"},
       {call({.q = {q, q}, .k = {q}}), streams, "2 q, 1 k, 0 v"},
       {call({.q = {q, q}, .k = {q, q}, .v = {q}}), streams, "2 q, 2 k, 1 v"},
       {call({.q = {q}, .k = {q}, .q_weights = {ones({16}), ones({16})}}), streams,
        "1 q, 1 k, 0 v"},
       {call({.q = {ones({6, 32})}, .k = {q}}), "q [B, S, heads * head_dim]", "f32 [6, 32] on cpu"},
       {call({.q = {q}, .k = {ones({1, 3, 32})}}), "k of 2 images", "f32 [1, 3, 32] on cpu"},
       {call({.q = {q}, .k = {ones({2, 4, 32})}}), "k of a stream [6, 32] f32",
        "k of a stream [8, 32] f32"},
       {call({.q = {q}, .k = {ones({2, 3, 32}, at::kHalf)}}), "k of type f32 on cpu",
        "f16 [2, 3, 32] on cpu"},
       {call({.q = {q}, .k = {q}, .q_weights = {ones({8})}}), "q_weight [16]", "f32 [8] on cpu"},
       {call({.q = {q}, .k = {q}}, {}, 5), "a head_dim that divides 32", "5"},
       {call({.q = {q}, .k = {q}}, {}, 4), "at least one head of 8 to 256 channels", "8 of 4"},
       {call({.q = {q}, .k = {q}}, ones({4, 8, 2})), "a rotation [3, 8, 2]",
        "f32 [4, 8, 2] on cpu"},
       {call({.q = {q}, .k = {q}}, ones({3, 8, 2}, at::kHalf)), "rotation of type f32 on cpu",
        "f16 [3, 8, 2] on cpu"}});
}

}  // namespace
}  // namespace rtlynx
