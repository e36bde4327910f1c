// SPDX-License-Identifier: Apache-2.0
#include "compensate/fold_transform.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "ops/ops.h"

namespace rtlynx {
namespace {

constexpr const char* kQuery = "transformer_blocks.0.attn.to_q";
constexpr const char* kDown = "transformer_blocks.0.ff.net.2";
constexpr const char* kOut = "transformer_blocks.0.attn.to_out.0";
constexpr const char* kSingleOut = "single_transformer_blocks.0.proj_out";

torch::Tensor factors(std::int64_t channels) { return 0.5 + 1.5 * torch::rand({channels}); }

// Any order that keeps to the input's blocks.
torch::Tensor free_order(const ProducedInput& input) {
  std::vector<torch::Tensor> parts;
  std::int64_t first = 0;
  for (const ProducedChannels& channels : input.channels) {
    for (std::int64_t i = 0; i < channels.count; i += channels.order_block) {
      parts.push_back(first + i + torch::randperm(channels.order_block));
    }
    first += channels.count;
  }
  return torch::cat(parts);
}

InputTransform free_transform(const ProducedInput& input) {
  InputTransform transform;
  transform.scale = factors(input.readers.front().linear->in_features());
  transform.permutation = free_order(input);
  return transform;
}

void compensate(NamedLinear layer, const InputTransform& transform, bool norm) {
  const std::int64_t k = layer.linear->in_features(), n = layer.linear->out_features();
  const torch::Tensor weight = transform.weight_for_z(layer.linear->weight).to(torch::kFloat32);
  layer.linear->set_compensation({.norm = norm,
                                  .transform = transform,
                                  .weight = weight + 0.01 * torch::randn({n, k}),
                                  .down = 0.1 * torch::randn({4, k}),
                                  .up = 0.1 * torch::randn({n, 4})});
  layer.linear->set_mode(LinearMode::compensated);
}

double relative_error(const torch::Tensor& value, const torch::Tensor& truth) {
  const torch::Tensor wide = truth.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - wide).norm() / wide.norm()).item<double>();
}

class Fold : public testing::Test {
 protected:
  Fold() {
    torch::manual_seed(11);
    for (auto& item : model_->named_parameters()) item.value().normal_(0, 0.3);
  }

  // Two images of 6 tokens and 3 of text.
  static FluxInputs inputs(torch::ScalarType type) {
    torch::manual_seed(12);
    const auto random = [&](torch::IntArrayRef shape) { return torch::randn(shape).to(type); };
    return {.hidden_states = random({2, 6, 8}),
            .encoder_hidden_states = random({2, 3, 12}),
            .pooled_projections = random({2, 12}),
            .timestep = torch::full({2}, 0.5).to(type),
            .guidance = {},
            .img_ids = torch::arange(18).view({6, 3}).to(torch::kFloat32),
            .txt_ids = torch::zeros({3, 3})};
  }
  torch::Tensor run(torch::ScalarType type = torch::kFloat32) { return model_(inputs(type)); }

  // What the dense model says in fp64.
  torch::Tensor truth() {
    model_->to(torch::kFloat64);
    const torch::Tensor result = run(torch::kFloat64);
    model_->to(torch::kFloat32);
    return result;
  }

  ProducedInput input_of(const std::string& reader) const {
    for (const ProducedInput& input : produced_inputs(*model_, model_->groups())) {
      if (input.readers.front().name == reader) return input;
    }
    throw std::runtime_error("no input of " + reader);
  }

  // Which channels every compensated layer keeps in a pass.
  std::map<std::string, torch::Tensor> choices() {
    std::map<std::string, torch::Tensor> kept;
    for (NamedLinear layer : named_linears(*model_)) {
      if (layer.linear->mode() != LinearMode::compensated) continue;
      layer.linear->set_observer([&kept, layer](const torch::Tensor& x) {
        const torch::Tensor z = layer.linear->compensation()->transform.apply(x);
        kept[layer.name] = std::get<0>(ops::sparsify24(z.contiguous(), false)).ne(0);
      });
    }
    run();
    for (NamedLinear layer : named_linears(*model_)) layer.linear->set_observer({});
    return kept;
  }

  torch::NoGradGuard no_grad_;
  FluxTransformer model_{test::small_flux_config()};
};

// The error of the folded model is held against that of the model as it was, both in fp32.
TEST_F(Fold, DenseModelsStayTheSame) {
  const torch::Tensor exact = truth();
  const double before = relative_error(run(), exact);
  for (const ProducedInput& input : produced_inputs(*model_, model_->groups())) {
    const SplitTransform split = split_transform(input, free_transform(input));
    EXPECT_FALSE(split.folded.is_identity());
    fold_into_producers(input, split.folded);
    EXPECT_LE(relative_error(run(), exact), 2 * before) << input.readers.front().name;
  }
}

TEST_F(Fold, SparseModelsChooseTheSameAndSayTheSame) {
  const double rounding = relative_error(run(), truth());
  bool norm = false;
  for (const ProducedInput& input : produced_inputs(*model_, model_->groups())) {
    const InputTransform transform = free_transform(input);
    for (const NamedLinear& reader : input.readers) compensate(reader, transform, norm = !norm);
  }
  const torch::Tensor before = run();
  const auto chosen = choices();
  const std::vector<FoldedInput> folded = fold_transforms(*model_, model_->groups());
  ASSERT_EQ(folded.size(), 9U);
  for (const FoldedInput& input : folded) {
    EXPECT_FALSE(input.why) << *input.why;
    EXPECT_FALSE(input.left.permutation.defined());
    const std::string& reader = input.readers.front();
    const bool behind_gelu = reader.ends_with(".net.2") || reader == kSingleOut;
    EXPECT_EQ(input.left.scale.defined(), behind_gelu) << reader;
  }
  for (const auto& [name, kept] : choices()) EXPECT_TRUE(kept.equal(chosen.at(name))) << name;
  EXPECT_LE(relative_error(run(), before), 4 * rounding);  // both are rounded
}

// q alone is sparse; k and v, dense, read the same folded input.
TEST_F(Fold, DenseLayersMayReadWithSparseOnes) {
  const double rounding = relative_error(run(), truth());
  const ProducedInput input = input_of(kQuery);
  InputTransform columns;
  columns.scale = factors(input.readers.front().linear->in_features());
  compensate(input.readers.front(), columns, true);
  const torch::Tensor before = run();
  const std::vector<FoldedInput> folded = fold_transforms(*model_, model_->groups());
  ASSERT_EQ(folded.size(), 1U);
  EXPECT_EQ(folded.front().readers, std::vector<std::string>{kQuery});
  EXPECT_TRUE(folded.front().left.is_identity());
  EXPECT_LE(relative_error(run(), before), 4 * rounding);
}

TEST_F(Fold, IsUndoneBySettingTheLayersAgain) {
  const torch::Tensor dense = run();
  const auto set = [&] {
    torch::manual_seed(13);
    for (NamedLinear layer : named_linears(*model_)) {
      layer.linear->set_mode(LinearMode::dense);
    }
    for (const ProducedInput& input : produced_inputs(*model_, model_->groups())) {
      const InputTransform transform = free_transform(input);
      for (const NamedLinear& reader : input.readers) compensate(reader, transform, false);
    }
  };
  set();
  const torch::Tensor sparse = run();
  fold_transforms(*model_, model_->groups());
  set();
  EXPECT_TRUE(run().equal(sparse));
  fold_transforms(*model_, model_->groups());
  for (NamedLinear layer : named_linears(*model_)) layer.linear->set_mode(LinearMode::dense);
  EXPECT_TRUE(run().equal(dense));
}

// In bf16 folded weights are rounded anew: no worse than what rounding costs anyway.
TEST_F(Fold, Bf16LosesNoMoreThanBefore) {
  for (const ProducedInput& input : produced_inputs(*model_, model_->groups())) {
    InputTransform columns;
    columns.scale = factors(input.readers.front().linear->in_features());
    for (const NamedLinear& reader : input.readers) compensate(reader, columns, false);
  }
  const torch::Tensor exact = run();
  model_->to(torch::kBFloat16);
  const double before = relative_error(run(torch::kBFloat16), exact);
  fold_transforms(*model_, model_->groups());
  EXPECT_LE(relative_error(run(torch::kBFloat16), exact), 2 * before);
}

TEST_F(Fold, AnOrderAcrossHeadsIsLeft) {
  const ProducedInput input = input_of(kOut);
  InputTransform transform;
  transform.scale = factors(32);
  transform.permutation = torch::arange(32).flip(0);
  const SplitTransform split = split_transform(input, transform);
  EXPECT_TRUE(split.folded.scale.equal(transform.scale));
  EXPECT_FALSE(split.folded.permutation.defined());
  EXPECT_FALSE(split.left.scale.defined());
  EXPECT_TRUE(split.left.permutation.equal(transform.permutation));
  const torch::Tensor x = torch::randn({5, 32});
  EXPECT_TRUE(split.left.apply(split.folded.apply(x)).equal(transform.apply(x)));
}

TEST_F(Fold, WhatCannotBeFoldedStaysAndSaysWhy) {
  const ProducedInput out = input_of(kOut);
  for (const NamedLinear& reader : out.readers) {
    compensate(reader, free_transform(out), false);  // one of its own each
  }
  ProducedInput down = input_of(kDown);
  compensate(down.readers.front(), free_transform(down), false);
  down.channels.front().rows.front().layer.linear->set_mode(LinearMode::norm);
  InputTransform columns;
  columns.scale = factors(32);
  std::map<std::string, SparseLinear> linears;
  for (NamedLinear layer : named_linears(*model_)) linears.emplace(layer.name, layer.linear);
  compensate({"proj_out", linears.at("proj_out")}, columns, false);

  const torch::Tensor before = run();
  const std::vector<FoldedInput> folded = fold_transforms(*model_, model_->groups());
  ASSERT_EQ(folded.size(), 3U);
  EXPECT_EQ(*folded[0].why,
            "transformer_blocks.0.attn.to_add_out reads the same input and chooses by another "
            "transform");
  EXPECT_EQ(*folded[1].why, "transformer_blocks.0.ff.net.0.proj is not compensated");
  EXPECT_EQ(folded[2].readers, std::vector<std::string>{"proj_out"});
  EXPECT_TRUE(folded[2].why);
  EXPECT_TRUE(run().equal(before));
}

TEST_F(Fold, AReaderThatIsAFixedChoiceKeepsTheFactors) {
  ProducedInput out = input_of(kOut);
  ASSERT_EQ(out.readers.size(), 2U);
  compensate(out.readers.front(), free_transform(out), false);
  SparseLinear& other = out.readers.back().linear;
  other->set_replacement({.down = torch::randn({4, other->in_features()}),
                          .up = torch::randn({other->out_features(), 4})});
  other->set_mode(LinearMode::replaced);
  const torch::Tensor before = run();
  const std::vector<FoldedInput> folded = fold_transforms(*model_, model_->groups());
  ASSERT_EQ(folded.size(), 1U);
  EXPECT_EQ(*folded.front().why,
            out.readers.back().name +
                " reads the same input and is replaced by more than a dense weight");
  EXPECT_TRUE(run().equal(before));
}

/// w2(silu(w1 x) * w3 x).
class SwiGlu : public torch::nn::Module {
 public:
  SwiGlu() {
    const torch::NoGradGuard no_grad;
    const auto mlp = register_module("mlp", std::make_shared<torch::nn::Module>());
    for (SparseLinear* linear : {&w1, &w2, &w3}) {
      (*linear)->weight.normal_();
      (*linear)->bias.normal_();
    }
    mlp->register_module("w1", w1);
    mlp->register_module("w2", w2);
    mlp->register_module("w3", w3);
  }
  torch::Tensor forward(const torch::Tensor& x) { return w2(torch::silu(w1(x)) * w3(x)); }

  static std::vector<LayerGroup> groups() {
    return {{.name = "mlp.w2",
             .channels = 48,
             .parts = {{.maker = InputPart::Maker::swiglu,
                        .channels = 48,
                        .made_by = {"mlp.w3", "mlp.w1"}}},
             .layers = {{.name = "mlp.w2", .outputs = 16}}}};
  }

  SparseLinear w1{SparseLinearImpl(16, 48)}, w3{SparseLinearImpl(16, 48)};
  SparseLinear w2{SparseLinearImpl(48, 16)};
};

TEST(FoldSwiGlu, TakesFactorsAndAnyOrder) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(14);
  SwiGlu mlp;
  const std::vector<ProducedInput> inputs = produced_inputs(mlp, mlp.groups());
  ASSERT_EQ(inputs.size(), 1U);
  const torch::Tensor x = torch::randn({7, 16});
  mlp.to(torch::kFloat64);
  const torch::Tensor exact = mlp.forward(x.to(torch::kFloat64));
  mlp.to(torch::kFloat32);
  const double rounding = relative_error(mlp.forward(x), exact);
  compensate(inputs.front().readers.front(), free_transform(inputs.front()), true);
  const torch::Tensor before = mlp.forward(x);
  const std::vector<FoldedInput> folded = fold_transforms(mlp, mlp.groups());
  ASSERT_EQ(folded.size(), 1U);
  EXPECT_TRUE(folded.front().left.is_identity());
  EXPECT_LE(relative_error(mlp.forward(x), before), 4 * rounding);
}

TEST(FoldSwiGlu, PassesThroughAFixedChoice) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(15);
  SwiGlu mlp;
  mlp.w3->set_replacement({.down = torch::randn({4, 16}), .up = torch::randn({48, 4})});
  mlp.w3->set_mode(LinearMode::replaced);
  const std::vector<ProducedInput> inputs = produced_inputs(mlp, mlp.groups());
  const torch::Tensor x = torch::randn({7, 16});
  compensate(inputs.front().readers.front(), free_transform(inputs.front()), true);
  const torch::Tensor before = mlp.forward(x);
  ASSERT_TRUE(fold_transforms(mlp, mlp.groups()).front().left.is_identity());
  EXPECT_FALSE(mlp.w3->replacement()->weight.defined());
  EXPECT_TRUE(mlp.w3->replacement()->bias.defined());
  EXPECT_LE(relative_error(mlp.forward(x), before), 1e-6);
}

}  // namespace
}  // namespace rtlynx
