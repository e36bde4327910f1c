// SPDX-License-Identifier: Apache-2.0
#include "study/prompt_embeddings.h"

#include <gtest/gtest.h>

#include <iterator>
#include <limits>
#include <set>
#include <utility>

#include "models/tensor_bytes.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;

class PromptEmbeddingsFile : public testing::Test {
 protected:
  PromptEmbeddings read(const Tensors& tensors) {
    write_safetensors(path_, TensorBytes(tensors).entries());
    return read_prompt_embeddings(path_, {{.name = "tokens", .channels = 6},
                                          {.name = "pooled", .channels = 3, .has_tokens = false}});
  }

  void expect_refused(const Tensors& tensors, const std::string& part) {
    const std::string message = refusal([&] { read(tensors); });
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }

  /// Two prompts and a negative one, but for one tensor that has another value, or none.
  static Tensors whole(const std::string& name = "", const torch::Tensor& value = {}) {
    Tensors tensors;
    for (const char* prompt : {"0", "1", "negative"}) {
      tensors.emplace_back(std::string(prompt) + ".tokens", torch::ones({4, 6}, torch::kBFloat16));
      tensors.emplace_back(std::string(prompt) + ".pooled", torch::ones({3}));
    }
    std::erase_if(tensors, [&](const auto& item) { return item.first == name; });
    if (value.defined()) tensors.emplace_back(name, value);
    return tensors;
  }

  test::TempDir folder_;
  std::filesystem::path path_ = folder_.path() / "embeddings.safetensors";
};

TEST_F(PromptEmbeddingsFile, HoldsPromptsAndANegativeOne) {
  const PromptEmbeddings embeddings = read(whole("1.tokens", torch::zeros({9, 6})));
  ASSERT_EQ(embeddings.prompts.size(), 2U);
  EXPECT_EQ(embeddings.prompts[0].at("tokens").size(0), 4);
  EXPECT_EQ(embeddings.prompts[1].at("tokens").size(0), 9);
  EXPECT_EQ(embeddings.negative->at("pooled").size(0), 3);
  EXPECT_NE(embeddings.revision, read(whole()).revision);
}

TEST_F(PromptEmbeddingsFile, WhatIsMissingOrUnknownIsNamed) {
  expect_refused({}, "no prompt");
  expect_refused(whole("1.pooled"), "required tensor \"1.pooled\" [3], got none");
  expect_refused(whole("negative.tokens"), "tensor \"negative.tokens\" [T, 6]");
  expect_refused(whole("3.tokens", torch::zeros({1, 6})), "required tensor \"2.tokens\"");
  expect_refused(whole("99.tokens", torch::zeros({1, 6})), "tensor \"99.tokens\"");
  expect_refused(whole("0.states", torch::zeros({1, 6})), "\"<i>.tokens\" [T, 6]");
  expect_refused(whole("00.tokens", torch::zeros({1, 6})), "tensor \"00.tokens\"");
  expect_refused(whole("tokens", torch::zeros({1, 6})), "tensor \"tokens\"");
}

TEST_F(PromptEmbeddingsFile, ShapesTypesAndValuesAreChecked) {
  expect_refused(whole("0.tokens", torch::zeros({4, 7})), "[T, 6] with at least one token");
  expect_refused(whole("0.tokens", torch::zeros({0, 6})), "at least one token");
  expect_refused(whole("0.pooled", torch::zeros({1, 3})), "values [3]");
  expect_refused(whole("0.pooled", torch::zeros({3}, torch::kInt64)), "floating-point");
  expect_refused(whole("0.pooled", torch::full({3}, std::numeric_limits<float>::infinity())),
                 "finite values");
}

/// Tokens of as many rows as the prompt has bytes.
class FakeEncoders : public TextToImageModel {
 public:
  std::string id = "files";
  std::int64_t channels = 6;
  double value = 1;
  bool with_pooled = true;

  ModelFacts facts() const override { return {}; }
  std::vector<LayerGroup> groups() const override { return {}; }
  std::vector<ForeignModule> foreign_modules() const override { return {}; }
  std::shared_ptr<torch::nn::Module> outline() const override { return {}; }
  std::vector<std::string> warnings(std::string_view) const override { return {}; }
  std::string encoding() const override { return id; }
  void check_encoder_memory(const torch::TensorOptions&) const override {}
  void check_drawing_memory(const torch::TensorOptions&) const override {}
  void encode(const std::vector<std::string>& prompts, const torch::TensorOptions& options,
              const PartCallback& on_load, const FeaturesCallback& on_features) const override {
    on_load("text encoder");
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      PromptFeatures features = {
          {"tokens", torch::full({std::ssize(prompts[i]), channels}, value, options)}};
      if (with_pooled) features["pooled"] = torch::ones({3}, options);
      on_features(i, std::move(features));
    }
  }
  std::unique_ptr<Denoiser> load_denoiser(const torch::TensorOptions&,
                                          const LoadProgress&) const override {
    return {};
  }
  std::shared_ptr<Vae> autoencoder_outline(const torch::TensorOptions&) const override {
    return {};
  }
  std::shared_ptr<Vae> load_autoencoder(const torch::TensorOptions&,
                                        const LoadProgress&) const override {
    return {};
  }
};

class EncodedPrompts : public testing::Test {
 protected:
  PromptEmbeddings encode(const std::vector<std::string>& prompts,
                          const std::optional<std::string>& negative = {},
                          torch::ScalarType type = torch::kFloat32) {
    return encode_prompts(
        model_,
        {{.name = "tokens", .channels = 6}, {.name = "pooled", .channels = 3, .has_tokens = false}},
        prompts, negative, type,
        [&](std::string_view) {
          ++loaded_;
          return LoadProgress();
        },
        [&](std::uint64_t finished, std::uint64_t) { encoded_ = finished; });
  }
  std::string message() {
    return refusal([&] { encode({"a cat"}); });
  }

  FakeEncoders model_;
  int loaded_ = 0;
  std::uint64_t encoded_ = 0;
};

TEST_F(EncodedPrompts, AreThoseOfTheTextEncoders) {
  const PromptEmbeddings embeddings = encode({"a", "bcd"}, "ef");
  ASSERT_EQ(embeddings.prompts.size(), 2U);
  EXPECT_EQ(embeddings.prompts[1].at("tokens").size(0), 3);
  ASSERT_TRUE(embeddings.negative);
  EXPECT_EQ(embeddings.negative->at("tokens").size(0), 2);
  EXPECT_EQ(loaded_, 1) << "once for all prompts";
  EXPECT_EQ(encoded_, 3U);
  EXPECT_FALSE(encode({"a"}).negative);
}

TEST_F(EncodedPrompts, TheRevisionIsOfAllThatTheyDependOn) {
  std::set<std::string> revisions = {encode({"a", "b"}).revision};
  EXPECT_EQ(encode({"a", "b"}).revision, *revisions.begin());
  EXPECT_TRUE(revisions.insert(encode({"b", "a"}).revision).second);
  EXPECT_TRUE(revisions.insert(encode({"a"}, "b").revision).second);
  EXPECT_TRUE(revisions.insert(encode({"a", "b"}, {}, torch::kBFloat16).revision).second);
  model_.id = "other files";
  EXPECT_TRUE(revisions.insert(encode({"a", "b"}).revision).second);
}

TEST_F(EncodedPrompts, WhatTheTransformerDoesNotReadIsNamed) {
  EXPECT_EQ(message(), "accepted");
  model_.channels = 7;
  EXPECT_NE(message().find("prompt \"a cat\", tokens: required floating-point values [T, 6]"),
            std::string::npos)
      << message();
  model_.channels = 6;
  model_.value = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(message().find("tokens: required finite values"), std::string::npos) << message();
  model_.value = 1;
  model_.with_pooled = false;
  EXPECT_NE(message().find("required the transformer's pooled, got none"), std::string::npos);
}

}  // namespace
}  // namespace rtlynx
