// SPDX-License-Identifier: Apache-2.0
// What a transformer's layers do with a compensation file and low-rank updates together.
#include "cli/treatment.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "compensate/compensation_file.h"
#include "models/checkpoint/apply_lora.h"
#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/recipe.h"
#include "models/revision.h"
#include "temp_dir.h"

namespace rtlynx::cli {
namespace {

constexpr const char* kUp = "transformer_blocks.0.ff.net.0.proj";
constexpr const char* kDown = "transformer_blocks.0.ff.net.2";
constexpr const char* kQuery = "transformer_blocks.0.attn.to_q";
constexpr const char* kKey = "transformer_blocks.0.attn.to_k";

double relative_error(const torch::Tensor& value, const torch::Tensor& truth) {
  return ((value - truth).norm() / truth.norm()).item<double>();
}

class TreatmentTest : public testing::Test {
 protected:
  TreatmentTest() {
    load();
    for (const char* const name : {kUp, kDown, kQuery, kKey}) {
      const SparseLinear layer = linear(name);
      updates_[name] = {.down = 0.3 * torch::randn({2, layer->in_features()}),
                        .up = 0.3 * torch::randn({layer->out_features(), 2})};
    }
    write();
  }

  /// Scale and order before `kDown`, which both go into `kUp`; `kQuery` reads its own weight.
  void write() const {
    ModelCompensation compensation{.base_model = "small",
                                   .base_revision = weights_revision(*model_),
                                   .method = "refit",
                                   .transform = "permute",
                                   .recipe = "two layers",
                                   .rank = 0,
                                   .layers = {}};
    InputTransform transform;
    const std::int64_t channels = linear(kDown)->in_features();
    transform.scale = 0.5 + torch::rand({channels});
    transform.permutation = torch::arange(channels).flip(0).contiguous();
    compensation.layers[kDown] = {.input = kDown,
                                  .values = {.norm = true, .transform = transform},
                                  .replacement = {},
                                  .method = ""};
    compensation.layers[kQuery] = {
        .input = kQuery, .values = {.norm = true}, .replacement = {}, .method = ""};
    write_compensation(file_, compensation);
  }

  SparseLinear linear(const std::string& name) const {
    for (const NamedLinear& layer : named_linears(*model_)) {
      if (layer.name == name) return layer.linear;
    }
    throw std::runtime_error("no layer " + name);
  }

  torch::Tensor run() {
    torch::manual_seed(6);
    const FluxInputs inputs{.hidden_states = torch::randn({2, 6, 8}),
                            .encoder_hidden_states = torch::randn({2, 3, 12}),
                            .pooled_projections = torch::randn({2, 12}),
                            .timestep = torch::full({2}, 0.5),
                            .guidance = {},
                            .img_ids = torch::arange(18).view({6, 3}).to(torch::kFloat32),
                            .txt_ids = torch::zeros({3, 3})};
    return model_(inputs);
  }

  SparseLayers treat(const Treatment& treatment, const SparseChoice& choice = {}) {
    return treatment.set_layers(*model_, model_->groups(), choice, updates_);
  }

  /// The model anew.
  void load() {
    torch::manual_seed(5);
    model_ = FluxTransformer(test::small_flux_config());
    for (auto& item : model_->named_parameters()) item.value().normal_(0, 0.3);
  }

  torch::NoGradGuard no_grad_;
  const test::TempDir temporary_;
  const std::string file_ = (temporary_ / "c.safetensors").string();
  FluxTransformer model_{test::small_flux_config()};
  LowRankUpdates updates_;
};

TEST_F(TreatmentTest, UpdatesAreFoldedWithTheWeights) {
  for (const bool with_dense : {false, true}) {
    load();
    apply_compensation(*model_, read_compensation(file_), file_);
    apply_updates(*model_, updates_);
    const torch::Tensor unfolded = run();
    load();
    treat(of_file(file_, with_dense));
    EXPECT_FALSE(linear(kDown)->compensation()->transform.permutation.defined()) << "folded";
    EXPECT_LE(relative_error(run(), unfolded), 1e-5);
  }
}

TEST_F(TreatmentTest, DenseHasTheSameUpdates) {
  load();
  treat(of_mode(LinearMode::dense));
  const torch::Tensor dense = run();
  load();
  treat(of_file(file_, /*with_dense=*/true));
  const torch::Tensor sparse = run();
  const LayerModes modes(*model_);
  make_dense(*model_);
  EXPECT_TRUE(torch::equal(run(), dense));
  modes.restore(*model_);
  EXPECT_TRUE(torch::equal(run(), sparse));
  EXPECT_GT(relative_error(sparse, dense), 1e-3);
}

bool is_not_text(const LayerGroup& group, const SparseForm&) {
  return group.stream != TokenStream::text;
}

TEST_F(TreatmentTest, AModeLeavesGroupsDenseThatAreNotChosen) {
  const SparseLayers all = treat(of_mode(LinearMode::norm));
  EXPECT_EQ(all.sparse, all.wanted);
  load();
  const SparseLayers chosen = treat(of_mode(LinearMode::norm), is_not_text);
  EXPECT_EQ(chosen.wanted, all.wanted);
  EXPECT_LT(chosen.sparse, all.sparse);
  EXPECT_EQ(linear(kUp)->mode(), LinearMode::norm);
  EXPECT_EQ(linear("transformer_blocks.0.ff_context.net.0.proj")->mode(), LinearMode::dense);
  load();
  EXPECT_EQ(treat(of_mode(LinearMode::dense), is_not_text).wanted, 0);
}

// The layers that stay dense are those of a file without them, folded weights too.
TEST_F(TreatmentTest, AFileLeavesGroupsDenseThatAreNotChosen) {
  const auto not_down = [&](const LayerGroup& group, const SparseForm& form) {
    EXPECT_EQ(form.rank, 0);
    EXPECT_EQ(form.width, OperandWidth::k16);
    return group.layers.front().name != kDown;
  };
  load();
  const SparseLayers layers = treat(of_file(file_, /*with_dense=*/false), not_down);
  EXPECT_EQ(layers.wanted, 2);
  EXPECT_EQ(layers.sparse, 1);
  EXPECT_EQ(linear(kDown)->mode(), LinearMode::dense);
  const torch::Tensor chosen = run();
  load();
  ModelCompensation without = read_compensation(file_);
  without.layers.erase(kDown);
  apply_compensation(*model_, without, file_);
  apply_updates(*model_, updates_);
  EXPECT_TRUE(torch::equal(run(), chosen));
}

TEST_F(TreatmentTest, AModeReadsUpdatedWeights) {
  load();
  treat(of_mode(LinearMode::norm));
  const torch::Tensor treated = run();
  load();
  apply_updates(*model_, updates_);
  apply_recipe(*model_, paper_layers(model_->groups()), LinearMode::norm);
  EXPECT_TRUE(torch::equal(run(), treated));
}

}  // namespace
}  // namespace rtlynx::cli
