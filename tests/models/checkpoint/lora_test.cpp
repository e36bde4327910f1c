// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "io/safetensors.h"
#include "models/tensor_bytes.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
using testing::UnorderedElementsAre;

using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;

constexpr std::int64_t kRank = 3, kDim = 8;

class Lora : public testing::Test {
 protected:
  /// A FLUX of one block of each kind, the layers that the tests use.
  static std::vector<LinearShape> layers() {
    std::vector<LinearShape> shapes;
    for (const char* name :
         {"transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_k",
          "transformer_blocks.0.attn.to_v", "transformer_blocks.0.attn.to_out.0",
          "single_transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.attn.to_k",
          "single_transformer_blocks.0.attn.to_v"}) {
      shapes.push_back({.name = name, .out = kDim, .in = kDim});
    }
    shapes.push_back({.name = "single_transformer_blocks.0.proj_mlp", .out = 4 * kDim, .in = kDim});
    shapes.push_back({.name = "norm_out.linear", .out = 2 * kDim, .in = kDim});
    return shapes;
  }

  std::filesystem::path write(const Tensors& tensors, const SafetensorsMetadata& metadata = {}) {
    const TensorBytes bytes(tensors);
    const auto path = temporary_ / "lora.safetensors";
    write_safetensors(path, bytes.entries(), metadata);
    return path;
  }

  LowRankUpdates read(const Tensors& tensors, double strength = 1,
                      const SafetensorsMetadata& metadata = {}) {
    return read_lora(write(tensors, metadata), names_, strength);
  }

  std::string message(const Tensors& tensors, const SafetensorsMetadata& metadata = {}) {
    return refusal([&] { read(tensors, 1, metadata); });
  }

  static torch::Tensor product(const LowRankUpdate& update) {
    return update.up.matmul(update.down);
  }

  const LayerNames names_{layers(), flux_foreign_modules(1, 1)};
  const torch::Tensor down_ = torch::randn({kRank, kDim});
  const torch::Tensor up_ = torch::randn({kDim, kRank});
  test::TempDir temporary_;
};

TEST_F(Lora, NamesAreSplit) {
  const auto parse = [](std::string_view name) {
    const auto parsed = parse_lora_name(name);
    return parsed
               ? std::string(parsed->module) + " " + std::to_string(static_cast<int>(parsed->role))
               : "none";
  };
  EXPECT_EQ(parse("a.b.lora_A.weight"), "a.b 0");
  EXPECT_EQ(parse("a.b.lora_B.default.weight"), "a.b 1");
  EXPECT_EQ(parse("a_b.lora_up.weight"), "a_b 1");
  EXPECT_EQ(parse("a.lora.down.weight"), "a 0");
  EXPECT_EQ(parse("a.qkv_lora1.up.weight"), "a.qkv_lora1 1");
  EXPECT_EQ(parse("a.alpha"), "a 2");
  EXPECT_EQ(parse("a.lora_B.bias"), "none");
  EXPECT_EQ(parse("a.lora_magnitude_vector"), "none");
}

TEST_F(Lora, EveryNamingGivesTheSameUpdate) {
  const torch::Tensor wanted = up_.matmul(down_);
  const auto alpha = torch::tensor(static_cast<float>(kRank));
  const std::vector<Tensors> namings = {
      {{"transformer.transformer_blocks.0.attn.to_out.0.lora_A.weight", down_},
       {"transformer.transformer_blocks.0.attn.to_out.0.lora_B.weight", up_}},
      {{"base_model.model.transformer_blocks.0.attn.to_out.0.lora_A.default.weight", down_},
       {"base_model.model.transformer_blocks.0.attn.to_out.0.lora_B.default.weight", up_}},
      {{"diffusion_model.double_blocks.0.img_attn.proj.lora_A.weight", down_},
       {"diffusion_model.double_blocks.0.img_attn.proj.lora_B.weight", up_}},
      {{"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", down_},
       {"lora_unet_double_blocks_0_img_attn_proj.lora_up.weight", up_},
       {"lora_unet_double_blocks_0_img_attn_proj.alpha", alpha}},
      {{"double_blocks.0.processor.proj_lora1.down.weight", down_},
       {"double_blocks.0.processor.proj_lora1.up.weight", up_}}};
  for (const Tensors& naming : namings) {
    const LowRankUpdates updates = read(naming);
    ASSERT_THAT(updates, UnorderedElementsAre(Key("transformer_blocks.0.attn.to_out.0")));
    EXPECT_TRUE(torch::allclose(product(updates.begin()->second), wanted)) << naming[0].first;
  }
}

TEST_F(Lora, RowsOfAFusedProjectionGoToTheirLayers) {
  const torch::Tensor fused = torch::randn({7 * kDim, kRank});
  const auto updates = read({{"lora_unet_single_blocks_0_linear1.lora_down.weight", down_},
                             {"lora_unet_single_blocks_0_linear1.lora_up.weight", fused}});
  ASSERT_EQ(updates.size(), 4u);
  const torch::Tensor whole = fused.matmul(down_);
  const std::string block = "single_transformer_blocks.0.";
  EXPECT_TRUE(torch::allclose(product(updates.at(block + "attn.to_k")), whole.narrow(0, 8, 8)));
  EXPECT_TRUE(torch::allclose(product(updates.at(block + "proj_mlp")), whole.narrow(0, 24, 32)));
}

TEST_F(Lora, SwappedHalvesAreSwappedBack) {
  const torch::Tensor rows = torch::randn({2 * kDim, kRank});
  const auto updates =
      read({{"diffusion_model.final_layer.adaLN_modulation.1.lora_A.weight", down_},
            {"diffusion_model.final_layer.adaLN_modulation.1.lora_B.weight", rows}});
  const torch::Tensor swapped = torch::cat({rows.narrow(0, 8, 8), rows.narrow(0, 0, 8)});
  EXPECT_TRUE(torch::allclose(updates.at("norm_out.linear").up, swapped));
}

TEST_F(Lora, AlphaAndStrengthScaleTheUpdate) {
  const std::string layer = "transformer_blocks.0.attn.to_q";
  Tensors tensors = {{layer + ".lora_A.weight", down_}, {layer + ".lora_B.weight", up_}};
  const torch::Tensor plain = up_.matmul(down_);
  EXPECT_TRUE(torch::allclose(product(read(tensors, -0.5).at(layer)), -0.5 * plain));
  const SafetensorsMetadata settings = {
      {"lora_adapter_metadata", R"({"transformer.lora_alpha": 6, "transformer.r": 3})"}};
  EXPECT_TRUE(torch::allclose(product(read(tensors, 1, settings).at(layer)), 2 * plain));
  // The file's own alpha goes before the settings'.
  tensors.emplace_back(layer + ".alpha", torch::tensor({1.5f}));
  EXPECT_TRUE(torch::allclose(product(read(tensors, 1, settings).at(layer)), 0.5 * plain));
}

TEST_F(Lora, SeveralAddUp) {
  const std::string q = "transformer_blocks.0.attn.to_q", k = "transformer_blocks.0.attn.to_k";
  LowRankUpdates sum = read({{q + ".lora_A.weight", down_}, {q + ".lora_B.weight", up_}});
  const torch::Tensor other_down = torch::randn({2, kDim}), other_up = torch::randn({kDim, 2});
  add_updates(sum, read({{q + ".lora_A.weight", other_down},
                         {q + ".lora_B.weight", other_up},
                         {k + ".lora_A.weight", other_down},
                         {k + ".lora_B.weight", other_up}},
                        0.25));
  ASSERT_THAT(sum, UnorderedElementsAre(Key(q), Key(k)));
  EXPECT_EQ(sum.at(q).down.size(0), kRank + 2);
  EXPECT_TRUE(torch::allclose(product(sum.at(q)),
                              up_.matmul(down_) + 0.25 * other_up.matmul(other_down), 1e-4, 1e-5));
}

TEST_F(Lora, MergingRoundsOnce) {
  const torch::Tensor weight = torch::randn({kDim, kDim}).to(torch::kBFloat16);
  const LowRankUpdate update{.down = down_, .up = up_};
  const torch::Tensor merged = merged_weight(weight, update);
  EXPECT_EQ(merged.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::allclose(
      merged, (weight.to(torch::kFloat32) + up_.matmul(down_)).to(torch::kBFloat16), 1e-2, 1e-3));
}

TEST_F(Lora, ATensorThatMatchesNothingIsAnErrorThatNamesIt) {
  const std::string layer = "transformer.transformer_blocks.0.attn.to_q";
  for (const char* name : {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
                           "transformer.transformer_blocks.7.attn.to_q.lora_A.weight",
                           "transformer.transformer_blocks.0.attn.to_q.lora_B.bias",
                           "double_blocks.0.img_attn.norm.query_norm.scale"}) {
    EXPECT_THAT(
        message({{layer + ".lora_A.weight", down_},
                 {layer + ".lora_B.weight", up_},
                 {name, torch::zeros({1})}}),
        HasSubstr(std::string("linear layers, got \"") + name + "\" (1 such tensors of 3)"));
  }
}

TEST_F(Lora, HalvesAndShapesThatDoNotFitAreNamed) {
  const std::string layer = "transformer_blocks.0.attn.to_q";
  EXPECT_THAT(message({{layer + ".lora_A.weight", down_}}), HasSubstr("together, got down alone"));
  EXPECT_THAT(message({{layer + ".lora_B.weight", up_}}), HasSubstr("together, got up alone"));
  EXPECT_THAT(message({{layer + ".alpha", torch::tensor(1.0f)}}), HasSubstr("got neither"));
  EXPECT_THAT(
      message({{layer + ".lora_A.weight", torch::zeros({3, 9})}, {layer + ".lora_B.weight", up_}}),
      HasSubstr("required down [r, 8] and up [8, r], got [3, 9] and [8, 3]"));
  EXPECT_THAT(message({{layer + ".lora_A.weight", down_},
                       {layer + ".lora_B.weight", torch::zeros({8, 2})}}),
              HasSubstr("got [3, 8] and [8, 2]"));
  EXPECT_THAT(message({{layer + ".lora_A.weight", torch::zeros({0, 8})},
                       {layer + ".lora_B.weight", torch::zeros({8, 0})}}),
              HasSubstr("got [0, 8]"));
  EXPECT_THAT(message({{layer + ".lora_A.weight", down_},
                       {layer + ".lora_B.weight", up_},
                       {layer + ".alpha", torch::zeros({2})}}),
              HasSubstr("one number as alpha"));
}

TEST_F(Lora, ValuesThatAreNotFiniteAreNamed) {
  const std::string layer = "transformer_blocks.0.attn.to_q";
  const Tensors good = {{layer + ".lora_A.weight", down_},
                        {layer + ".lora_B.weight", up_},
                        {layer + ".alpha", torch::tensor({3.0f})}};
  for (std::size_t bad = 0; bad < good.size(); ++bad) {
    Tensors tensors = good;
    torch::Tensor& values = tensors[bad].second;
    values = values.clone();
    values.view({-1})[values.numel() - 1] = bad == 0 ? NAN : INFINITY;
    EXPECT_THAT(message(tensors), HasSubstr("lora.safetensors, tensor " + tensors[bad].first +
                                            ": required finite values, got"));
  }
  EXPECT_THAT(refusal([&] { read(good, 1e39); }),
              HasSubstr("by its alpha and the strength: required finite values"));
}

TEST_F(Lora, Fp8IsReadAsItsValues) {
  const std::string layer = "transformer_blocks.0.attn.to_q";
  const auto type = torch::kFloat8_e4m3fn;
  const auto updates =
      read({{layer + ".lora_A.weight", down_.to(type)}, {layer + ".lora_B.weight", up_.to(type)}});
  EXPECT_TRUE(torch::equal(updates.at(layer).down, down_.to(type).to(torch::kFloat32)));
}

TEST_F(Lora, ALayerUnderTwoNamesIsRefused) {
  EXPECT_THAT(message({{"transformer_blocks.0.attn.to_q.lora_A.weight", down_},
                       {"transformer_blocks.0.attn.to_q.lora_B.weight", up_},
                       {"double_blocks.0.img_attn.qkv.lora_A.weight", down_},
                       {"double_blocks.0.img_attn.qkv.lora_B.weight", torch::zeros({24, 3})}}),
              HasSubstr("required each layer once, got transformer_blocks.0.attn.to_q"));
}

TEST_F(Lora, PeftsOwnFileIsScaledByItsConfig) {
  const std::string layer = "transformer_blocks.0.attn.to_q", ours = "base_model.model." + layer;
  const Tensors tensors = {{ours + ".lora_A.weight", down_}, {ours + ".lora_B.weight", up_}};
  std::vector<std::string> said;
  const auto read_saying = [&](const Tensors& file) {
    said.clear();
    return read_lora(write(file), names_, 1, [&](const std::string& text) { said.push_back(text); })
        .at(layer);
  };
  const torch::Tensor plain = up_.matmul(down_);
  EXPECT_TRUE(torch::allclose(product(read_saying(tensors)), plain));
  EXPECT_THAT(said, ElementsAre(HasSubstr("lora.safetensors: its alpha is neither in the file")));

  Tensors with_alpha = tensors;
  with_alpha.emplace_back(ours + ".alpha", torch::tensor(6.0f));
  EXPECT_TRUE(torch::allclose(product(read_saying(with_alpha)), 2 * plain));
  EXPECT_THAT(said, IsEmpty());

  read_saying({{layer + ".lora_A.weight", down_}, {layer + ".lora_B.weight", up_}});
  EXPECT_THAT(said, IsEmpty()) << "without PEFT's names alpha is the rank";

  std::ofstream(temporary_ / "adapter_config.json") << R"({"lora_alpha": 12, "r": 3})";
  EXPECT_TRUE(torch::allclose(product(read_saying(tensors)), 4 * plain));
  EXPECT_THAT(said, IsEmpty());
  std::ofstream(temporary_ / "adapter_config.json") << R"({"lora_alpha": 12, "r": 8})";
  EXPECT_THAT(message(tensors), HasSubstr(layer + " of rank 8, got 3"));
}

}  // namespace
}  // namespace rtlynx
