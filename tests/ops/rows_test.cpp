// SPDX-License-Identifier: Apache-2.0
// The row operators against their formulas in fp64: on a CPU the specification is what runs.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/places.h"

namespace rtlynx {
namespace {

using testing::relative_error;

at::Tensor wide(const at::Tensor& tensor) { return tensor.cpu().to(at::kDouble); }

class OpsRows : public testing::PlaceTest {
 protected:
  void SetUp() override {
    PlaceTest::SetUp();
    if (on_gpu() && dtype() == DType::f32) GTEST_SKIP() << "the GPU's row kernels take 16 bits";
  }
  /// One rounding to the type, and fp32 sums of so many terms.
  static double allowed(std::int64_t terms) {
    return testing::unit_roundoff(dtype()) + static_cast<double>(terms) * 0x1p-24;
  }
};

class OpsResidualNorm : public OpsRows {
 protected:
  static constexpr std::int64_t kImages = 3, kTokens = 700, kColumns = 96;

  /// [G, N] for [B, S, N].
  static at::Tensor by_image(const at::Tensor& vectors) {
    return wide(vectors).view({-1, 1, kColumns});
  }

  static at::Tensor rms_rate(const at::Tensor& rows, double eps) {
    return at::rsqrt(rows.square().mean(-1, /*keepdim=*/true) + eps);
  }

  static void expect_formula(const at::Tensor& x, const ops::ResidualNormOptions& options) {
    const ops::NormedRows rows = ops::residual_norm(x, options);
    at::Tensor h = wide(x);
    if (options.y) {
      at::Tensor p = wide(*options.y);
      if (options.post_weight) p = p * rms_rate(p, options.post_eps) * wide(*options.post_weight);
      if (options.gate) {
        const at::Tensor gate = by_image(*options.gate);
        p = p * (options.tanh_gate ? at::tanh(gate) : gate);
      }
      h = h + p;
    }
    EXPECT_LE(relative_error(rows.h, h), allowed(kColumns));

    // Moments and normed rows are of the rounded h.
    h = wide(rows.h);
    const bool layer = options.norm == "layer";
    const at::Tensor mean = layer ? h.mean(-1, true) : at::zeros_like(h.narrow(-1, 0, 1));
    const at::Tensor rate = rms_rate(h - mean, options.eps);
    ASSERT_EQ(rows.moments.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::allclose(wide(rows.moments), at::cat({mean, rate}, -1), /*rtol=*/1e-5,
                             /*atol=*/1e-6));
    if (!options.want_normed) {
      EXPECT_EQ(rows.normed.size(-1), 0);
      return;
    }
    at::Tensor n = (h - mean) * rate;
    if (options.weight) n = n * wide(*options.weight);
    if (options.scale) n = n * (1 + by_image(*options.scale));
    if (options.shift) n = n + by_image(*options.shift);
    EXPECT_LE(relative_error(rows.normed, n), allowed(kColumns));
  }
};

TEST_P(OpsResidualNorm, IsItsFormula) {
  const at::Tensor x = normal({kImages, kTokens, kColumns});
  const at::Tensor y = normal({kImages, kTokens, kColumns}), gate = normal({kImages, kColumns});
  const at::Tensor weight = normal({kColumns}), scale = normal({kImages, kColumns});
  const at::Tensor shift = normal({kImages, kColumns});
  expect_formula(x, {});
  expect_formula(x, {.norm = "rms", .eps = 0.5, .want_normed = true});
  expect_formula(x, {.y = y, .gate = gate});
  expect_formula(x, {.y = y, .want_normed = true});
  expect_formula(x, {.y = y, .gate = gate, .scale = scale, .shift = shift, .want_normed = true});
  expect_formula(x, {.y = y,
                     .gate = gate,
                     .tanh_gate = true,
                     .post_weight = normal({kColumns}),
                     .post_eps = 0.25,
                     .norm = "rms",
                     .eps = 0.125,
                     .weight = weight,
                     .scale = scale,
                     .want_normed = true});
  expect_formula(
      x, {.y = y, .gate = normal({1, kColumns}), .shift = normal({kColumns}), .want_normed = true});
}

TEST_P(OpsResidualNorm, WritesNewTensorsOfAnyStrides) {
  const at::Tensor x = normal({2, 9, 64}), y = normal({2, 9, 64}), gate = normal({2, 64});
  const ops::NormedRows expected =
      ops::residual_norm(x, {.y = y, .gate = gate, .want_normed = true});
  for (const auto view : {testing::transposed, testing::shifted, testing::spaced}) {
    const ops::NormedRows rows =
        ops::residual_norm(view(x), {.y = view(y), .gate = view(gate), .want_normed = true});
    EXPECT_TRUE(testing::same_bits(rows.h, expected.h));
    EXPECT_TRUE(testing::same_bits(rows.moments, expected.moments));
    EXPECT_TRUE(testing::same_bits(rows.normed, expected.normed));
  }
  const ops::NormedRows copied = ops::residual_norm(x, {});
  EXPECT_TRUE(testing::same_bits(copied.h, x));
  EXPECT_NE(copied.h.data_ptr(), x.data_ptr());
  const at::Tensor none = normal({2, 0, 64});
  EXPECT_EQ(ops::residual_norm(none, {.y = none, .gate = gate, .want_normed = true}).normed.sizes(),
            at::IntArrayRef({2, 0, 64}));
}

RTLYNX_IN_PLACES(OpsResidualNorm);

class OpsHeadNorm : public OpsRows {
 protected:
  static constexpr std::int64_t kImages = 2, kHeads = 3, kHeadDim = 32;

  static at::Tensor rotation(std::int64_t tokens) {
    const at::Tensor angles = at::rand({tokens, kHeadDim / 2}) * 6.3;
    return here(at::stack({angles.cos(), angles.sin()}, -1));
  }

  /// Heads normed, weighted and rounded as the specification rounds, then turned.
  static at::Tensor formula(const std::vector<at::Tensor>& streams,
                            const std::vector<at::Tensor>& weights, const ops::OptionalTensor& turn,
                            double eps) {
    const auto rounded = [](const at::Tensor& tensor) {
      return tensor.to(testing::scalar_type(dtype())).to(at::kDouble);
    };
    std::vector<at::Tensor> normed;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      at::Tensor heads = wide(streams[i]).view({kImages, -1, kHeads, kHeadDim});
      heads = rounded(heads * at::rsqrt(heads.square().mean(-1, true) + eps));
      if (!weights.empty()) heads = rounded(heads * wide(weights[i]));
      normed.push_back(heads);
    }
    at::Tensor joint = at::cat(normed, 1);
    if (turn) {
      const at::Tensor cosine = wide(*turn).select(-1, 0).unsqueeze(1);  // [S, 1, head_dim / 2]
      const at::Tensor sine = wide(*turn).select(-1, 1).unsqueeze(1);
      const at::Tensor pairs = joint.view({kImages, -1, kHeads, kHeadDim / 2, 2});
      const at::Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
      joint = at::stack({a * cosine - b * sine, b * cosine + a * sine}, -1);
    }
    return joint.reshape({kImages, -1, kHeads * kHeadDim});
  }
};

TEST_P(OpsHeadNorm, JoinsNormsAndTurns) {
  const std::int64_t columns = kHeads * kHeadDim;
  for (const std::vector<std::int64_t>& tokens : {std::vector<std::int64_t>{37}, {5, 31}}) {
    ops::HeadStreams streams;
    std::int64_t total = 0;
    for (const std::int64_t count : tokens) {
      // As they lie behind one product: columns of a wider tensor.
      const at::Tensor qkv = normal({kImages, count, 3 * columns});
      streams.q.push_back(qkv.narrow(-1, 0, columns));
      streams.k.push_back(qkv.narrow(-1, columns, columns));
      streams.v.push_back(qkv.narrow(-1, 2 * columns, columns));
      total += count;
    }
    for (const bool weighted : {false, true}) {
      for (const bool turned : {false, true}) {
        ops::HeadStreams part = streams;
        for (std::size_t i = 0; weighted && i < tokens.size(); ++i) {
          part.q_weights.push_back(normal({kHeadDim}));
          part.k_weights.push_back(normal({kHeadDim}));
        }
        const ops::OptionalTensor turn =
            turned ? ops::OptionalTensor(rotation(total)) : std::nullopt;
        const ops::Heads heads = ops::head_norm(part, turn, kHeadDim, 0.25);
        // A sum that rounds the other way moves an element by its last place, in few of them.
        EXPECT_LE(relative_error(heads.q, formula(part.q, part.q_weights, turn, 0.25)),
                  2 * allowed(kHeadDim));
        EXPECT_LE(relative_error(heads.k, formula(part.k, part.k_weights, turn, 0.25)),
                  2 * allowed(kHeadDim));
        EXPECT_TRUE(testing::same_bits(heads.v, at::cat(part.v, 1)));
      }
    }
  }
}

TEST_P(OpsHeadNorm, LeavesOutV) {
  const at::Tensor q = normal({kImages, 4, kHeads * kHeadDim});
  const ops::Heads heads = ops::head_norm({.q = {q}, .k = {q}}, {}, kHeadDim);
  EXPECT_EQ(heads.v.sizes(), at::IntArrayRef({kImages, 4, 0}));
}

RTLYNX_IN_PLACES(OpsHeadNorm);

class OpsSwiglu : public OpsRows {};

TEST_P(OpsSwiglu, IsItsFormulaForHalvesOfAStack) {
  const at::Tensor both = normal({3, 700, 2 * 96}) * 4;
  const at::Tensor gate = both.narrow(-1, 0, 96), up = both.narrow(-1, 96, 96);
  const at::Tensor y = ops::swiglu(gate, up);
  EXPECT_TRUE(y.is_contiguous());
  EXPECT_EQ(y.scalar_type(), both.scalar_type());
  EXPECT_LE(relative_error(y, at::silu(wide(gate)) * wide(up)), allowed(1));
  EXPECT_TRUE(testing::same_bits(ops::swiglu(gate.contiguous(), up.contiguous()), y));
  EXPECT_EQ(ops::swiglu(gate.narrow(1, 0, 0), up.narrow(1, 0, 0)).sizes(),
            at::IntArrayRef({3, 0, 96}));
}

RTLYNX_IN_PLACES(OpsSwiglu);

}  // namespace
}  // namespace rtlynx
