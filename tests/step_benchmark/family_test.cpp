// SPDX-License-Identifier: Apache-2.0
// The step of a small model on the CPU: what the benchmark compares, and that it would see a fault.
#include "step_benchmark/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/recipe.h"
#include "refusal.h"
#include "step_benchmark/small_configs.h"
#include "step_benchmark/variants.h"

namespace rtlynx::step_benchmark {
namespace {

using testing::HasSubstr;

/// FLUX.1 that runs one block of each kind in fp32.
struct ShortFlux : FluxFamily {
  static FluxConfig checked(FluxConfig config) {
    config.num_layers = config.num_single_layers = 1;
    return config;
  }
};

const FluxConfig kSmall = small(FluxFamily());

template <typename Family>
ModelStep<Family> small_step(torch::ScalarType type) {
  torch::manual_seed(3);
  Family family;
  family.side = 6;
  family.text = 7;
  family.batch = 2;
  return ModelStep<Family>(family, small(family), torch::TensorOptions().dtype(type));
}

TEST(FamilyStep, TokensGroupsAndBlocksAreTheModels) {
  ModelStep<FluxFamily> step = small_step<FluxFamily>(torch::kFloat32);
  EXPECT_EQ(step.tokens().image, 36);
  EXPECT_EQ(step.tokens().text, 7);
  EXPECT_EQ(step.groups().size(), FluxTransformer(kSmall)->groups().size());
  EXPECT_EQ(step.checked_blocks().run, 4);
  EXPECT_EQ(step.checked_blocks().all, 4);
  EXPECT_EQ(step.fused_pass()().sizes(), torch::IntArrayRef({2, 36, 16}));
}

template <typename Family>
class EveryFamilyStep : public testing::Test {};
TYPED_TEST_SUITE(EveryFamilyStep, Families);

TYPED_TEST(EveryFamilyStep, BothPathsLieCloseToFp32InBf16) {
  const StepVariant& sparse = step_variants().at(2);
  ASSERT_EQ(sparse.name, "paper-block64");
  ModelStep<TypeParam> step = small_step<TypeParam>(torch::kBFloat16);
  for (const bool is_sparse : {false, true}) {
    if (is_sparse) apply(sparse, {&step.groups().front()}, step.model());
    const auto [fused, plain] = step.distances();
    EXPECT_GT(plain, 1e-4) << "bf16 rounds";
    EXPECT_LE(fused, 2 * plain);
  }
}

TEST(FamilyStep, QwenImageChecksItsFirstBlocks) {
  ModelStep<QwenImageFamily> step = small_step<QwenImageFamily>(torch::kFloat32);
  EXPECT_EQ(step.tokens().image, 36);
  EXPECT_EQ(step.checked_blocks().all, 3);
  EXPECT_EQ(step.fused_pass()().sizes(), torch::IntArrayRef({2, 36, 64}));
  EXPECT_EQ(QwenImageFamily().checked({}).num_layers, 20);
}

TEST(FamilyStep, ZImagesTokensArePaddedTo32) {
  ModelStep<ZImageFamily> step = small_step<ZImageFamily>(torch::kFloat32);
  EXPECT_EQ(step.tokens().image, 64);
  EXPECT_EQ(step.tokens().text, 32);
  EXPECT_EQ(step.checked_blocks().all, 4);
  EXPECT_EQ(step.fused_pass()().sizes(), torch::IntArrayRef({2, 16, 12, 12}));
}

TEST(FamilyStep, AForwardWithFewerBlocksHasTheirWeightsAndForms) {
  ModelStep<ShortFlux> step = small_step<ShortFlux>(torch::kFloat32);
  apply(step_variants().at(2), {&step.groups().front()}, step.model());
  EXPECT_EQ(step.checked_blocks().run, 2);
  EXPECT_EQ(step.checked_blocks().all, 4);
  const auto [fused, plain] = step.distances();
  EXPECT_EQ(plain, 0) << "fp32 against itself";
  EXPECT_LE(fused, 1e-5);
}

// A copy that forgot the forms would be another model.
TEST(FamilyStep, CopiedFormsAreSeen) {
  FluxTransformer from(kSmall), to(kSmall);
  fill_with_random_weights(*from);
  const std::vector<LayerGroup>& groups = from->groups();
  apply(step_variants().at(1), {&groups.front()}, *from);
  copy_weights_and_forms(*from, *to);
  const std::vector<NamedLinear> theirs = named_linears(*from), own = named_linears(*to);
  ASSERT_EQ(theirs.size(), own.size());
  int sparse = 0;
  for (std::size_t i = 0; i < own.size(); ++i) {
    EXPECT_TRUE(own[i].linear->weight.equal(theirs[i].linear->weight)) << own[i].name;
    EXPECT_EQ(own[i].linear->mode(), theirs[i].linear->mode()) << own[i].name;
    if (own[i].linear->mode() != LinearMode::compensated) continue;
    ++sparse;
    EXPECT_TRUE(own[i].linear->compensation()->down.equal(theirs[i].linear->compensation()->down));
  }
  EXPECT_EQ(sparse, 3);
}

TEST(FamilyStep, UnknownFamiliesAreNamed) {
  EXPECT_EQ(step_family_named("flux").side, 1024);
  EXPECT_THAT(refusal([] { step_family_named("sd3"); }), HasSubstr("z-image, got sd3"));
}

}  // namespace
}  // namespace rtlynx::step_benchmark
