// SPDX-License-Identifier: Apache-2.0
#include "compensate/solve.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "ops/ops.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kTokens = 400;
constexpr std::int64_t kRank = 4;

class Solve : public testing::Test {
 protected:
  Solve() {
    torch::manual_seed(81);
    const torch::NoGradGuard no_grad;
    for (auto& item : model_->named_parameters()) item.value().normal_(0, 0.2);
    groups_ = input_groups(*model_, in_paper_flux_recipe);
    x_ = torch::randn({kTokens, group().channels()})
             .matmul(torch::randn({group().channels(), group().channels()}));
  }

  const InputGroup& group() const { return groups_.front(); }
  const SparseLinear& layer() const { return group().layers.front().linear; }

  torch::Tensor second_moment() const {
    InputMoments inputs;
    inputs.add(x_);
    return inputs.second_moment();
  }

  LayerSolution solve(const TransformChoice& choice, const SolveOptions& options) const {
    InputTransform transform = choose_transform(choice, group(), second_moment());
    InputTransform wide = transform;
    if (wide.blocks.defined()) wide.blocks = wide.blocks.to(torch::kFloat32);
    if (wide.scale.defined()) wide.scale = wide.scale.to(torch::kFloat32);
    const torch::Tensor z = wide.apply(x_);
    const auto [kept, scale] = ops::sparsify24(z, uses_norm(options));
    InputMoments moments;
    moments.add(z, kept * scale.unsqueeze(1));
    return solve_layer(moments, transform, layer()->weight, options);
  }

  // What the layer itself then does to the same tokens.
  double error_of_the_layer(const LayerSolution& solution) const {
    const torch::NoGradGuard no_grad;
    SparseLinear linear = layer();
    linear->bias.zero_();
    linear->set_mode(LinearMode::dense);
    const torch::Tensor dense = linear(x_);
    linear->set_compensation(solution.values);
    linear->set_mode(LinearMode::compensated);
    return ((linear(x_) - dense).norm() / dense.norm()).item<double>();
  }

  FluxTransformer model_ = FluxTransformer(test::small_flux_config());
  std::vector<InputGroup> groups_;
  torch::Tensor x_;  // [n, K]
};

TEST_F(Solve, PredictsWhatTheLayerDoes) {
  for (const char* transform : {"none", "4", "16", "columns", "permute"}) {
    for (const auto method :
         {CompensationMethod::naive, CompensationMethod::norm, CompensationMethod::low_rank,
          CompensationMethod::refit, CompensationMethod::joint}) {
      for (const bool norm : {false, true}) {
        const SolveOptions options{.method = method, .norm = norm, .rank = kRank};
        const LayerSolution solution = solve(transform_choice_from_string(transform), options);
        EXPECT_NEAR(error_of_the_layer(solution), solution.error, 1e-4)
            << transform << " " << to_string(method) << " " << norm;
        EXPECT_LE(solution.error, solution.error_before * 1.01);
      }
    }
  }
}

TEST_F(Solve, StoresOnlyWhatTheMethodNeeds) {
  const TransformChoice none;
  const auto with = [&](CompensationMethod method) {
    return solve(none, {.method = method, .rank = kRank}).values;
  };
  EXPECT_FALSE(with(CompensationMethod::naive).norm);
  EXPECT_TRUE(with(CompensationMethod::norm).norm);
  EXPECT_FALSE(with(CompensationMethod::norm).weight.defined());
  EXPECT_FALSE(with(CompensationMethod::low_rank).weight.defined());
  EXPECT_EQ(with(CompensationMethod::low_rank).rank(), kRank);
  EXPECT_TRUE(with(CompensationMethod::refit).weight.defined());
  EXPECT_EQ(with(CompensationMethod::refit).rank(), 0);
  const Compensation24 joint = with(CompensationMethod::joint);
  EXPECT_TRUE(joint.weight.defined());
  EXPECT_EQ(joint.rank(), kRank);
  EXPECT_EQ(joint.weight.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(joint.down.scalar_type(), torch::kBFloat16);
}

TEST_F(Solve, JointIsAsGoodAsItsLimit) {
  const LayerSolution solution =
      solve({}, {.method = CompensationMethod::joint, .norm = false, .rank = kRank});
  EXPECT_NEAR(solution.error, std::sqrt(solution.unrecoverable), 1e-3);
}

TEST_F(Solve, PermutesOnlyWhereItIsFree) {
  const TransformChoice permute = transform_choice_from_string("permute");
  for (const InputGroup& candidate : groups_) {
    const torch::Tensor moment = torch::eye(candidate.channels(), torch::kFloat64);
    const InputTransform transform = choose_transform(permute, candidate, moment);
    EXPECT_TRUE(transform.scale.defined());
    EXPECT_EQ(transform.permutation.defined(), candidate.name.ends_with(".net.2"));
  }
}

TEST(SolveNames, GoThereAndBack) {
  for (const char* name : {"naive", "norm", "low-rank", "refit", "joint"}) {
    EXPECT_EQ(to_string(compensation_method_from_string(name)), name);
  }
  EXPECT_THROW(compensation_method_from_string("magic"), UsageError);
  EXPECT_EQ(to_string(transform_choice_from_string("64")), "block 64");
  EXPECT_EQ(to_string(transform_choice_from_string("none")), "none");
  EXPECT_THROW(transform_choice_from_string("32"), UsageError);
  EXPECT_TRUE(transform_choice_from_string("permute").needs_moments());
  EXPECT_FALSE(transform_choice_from_string("columns").needs_moments());
}

TEST(DefaultRank, IsTwoPercent) {
  EXPECT_EQ(default_rank(3072), 64);
  EXPECT_EQ(default_rank(256), 16);
  EXPECT_EQ(default_rank(801), 32);
  EXPECT_EQ(default_rank(800), 16);
}

}  // namespace
}  // namespace rtlynx
