// SPDX-License-Identifier: Apache-2.0
// What folders of text encoders hold beside what is needed, and what is refused. The small models
// are those of text_parity_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "io/safetensors.h"
#include "models/tensor_bytes.h"
#include "models/text/text_features.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;
using testing::AllOf;
using testing::HasSubstr;

const fs::path kGoldens = fs::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens";

class TextLoading : public testing::Test {
 protected:
  /// A copy of a golden's text encoder with its tensors changed by `edit`.
  fs::path edited(const char* golden, const std::function<void(Tensors&)>& edit) {
    const fs::path source = kGoldens / golden;
    const fs::path folder = temporary_ / std::to_string(++folders_);
    fs::create_directory(folder);
    fs::copy_file(source / "config.json", folder / "config.json");
    const SafetensorsFile file = SafetensorsFile::open(source / "model.safetensors");
    Tensors tensors;
    for (const std::string& name : file.names()) {
      tensors.emplace_back(name, copy_to_tensor(file.entry(name), name));
    }
    edit(tensors);
    const TensorBytes bytes(tensors);
    write_safetensors(folder / "model.safetensors", bytes.entries());
    return folder;
  }

  test::TempDir temporary_;
  int folders_ = 0;
};

void rename_all(Tensors& tensors, const std::function<std::string(const std::string&)>& rename) {
  for (auto& [name, tensor] : tensors) name = rename(name);
}

TEST_F(TextLoading, ClipMayHaveThePrefixAndThePositionsOfOlderFiles) {
  const fs::path folder = edited("text_flux/text_encoder", [](Tensors& tensors) {
    rename_all(tensors, [](const std::string& name) { return "text_model." + name; });
    tensors.emplace_back("text_model.embeddings.position_ids", torch::arange(77).unsqueeze(0));
  });
  ClipTextModel expected = load_clip_text(kGoldens / "text_flux" / "text_encoder", torch::kFloat32);
  ClipTextModel model = load_clip_text(folder, torch::kFloat32);
  const torch::Tensor ids = torch::arange(6).unsqueeze(0);
  EXPECT_TRUE(model(ids).pooled.equal(expected(ids).pooled));
}

TEST_F(TextLoading, T5MayHaveTheTiedCopyOfItsTable) {
  const fs::path folder = edited("text_flux/text_encoder_2", [](Tensors& tensors) {
    tensors.emplace_back("encoder.embed_tokens.weight", torch::zeros({154, 16}));
  });
  EXPECT_NO_THROW(load_t5_encoder(folder, torch::kFloat32));
}

TEST_F(TextLoading, QwenImageTakesTheNewerNamesAndLeavesWhatItDoesNotNeed) {
  const fs::path folder = edited("text_qwen_image/text_encoder", [](Tensors& tensors) {
    rename_all(tensors, [](const std::string& name) {
      if (name.starts_with("model.")) return "model.language_model." + name.substr(6);
      return name.starts_with("visual.") ? "model." + name : name;
    });
  });
  DecoderModel expected =
      load_qwen_image_text_encoder(kGoldens / "text_qwen_image" / "text_encoder", torch::kFloat32);
  DecoderModel model = load_qwen_image_text_encoder(folder, torch::kFloat32);
  const torch::Tensor ids = torch::arange(6).unsqueeze(0);
  EXPECT_TRUE(model(ids).equal(expected(ids)));
}

TEST_F(TextLoading, ZImageTakesACausalModelsNames) {
  const fs::path folder = edited("text_z_image/text_encoder", [](Tensors& tensors) {
    rename_all(tensors, [](const std::string& name) { return "model." + name; });
    tensors.emplace_back("lm_head.weight", torch::zeros({2, 2}));
  });
  EXPECT_EQ(load_z_image_text_encoder(folder, torch::kFloat32)->parameters().size(), 2u * 11u + 1u);
}

TEST_F(TextLoading, AnythingElseIsRefusedByName) {
  const auto extra = [](const char* name) {
    return [name](Tensors& tensors) { tensors.emplace_back(name, torch::zeros({2})); };
  };
  const auto message = [](const auto& load, const fs::path& folder) {
    return refusal([&] { load(folder, torch::kFloat32, LoadProgress()); });
  };
  EXPECT_THAT(message(load_clip_text, edited("text_flux/text_encoder", extra("text_projection"))),
              HasSubstr("tensor text_projection"));
  EXPECT_THAT(message(load_t5_encoder, edited("text_flux/text_encoder_2", extra("lm_head.weight"))),
              HasSubstr("tensor lm_head.weight"));
  EXPECT_THAT(message(load_qwen_image_text_encoder,
                      edited("text_qwen_image/text_encoder", extra("model.layers.2.weight"))),
              HasSubstr("tensor model.layers.2.weight"));
  EXPECT_THAT(message(load_z_image_text_encoder,
                      edited("text_z_image/text_encoder", extra("layers.3.mlp.up_proj.weight"))),
              HasSubstr("tensor layers.3.mlp.up_proj.weight"));
  const fs::path cut = edited("text_z_image/text_encoder", [](Tensors& tensors) {
    std::erase_if(tensors, [](const auto& item) { return item.first.starts_with("layers.1."); });
  });
  EXPECT_THAT(message(load_z_image_text_encoder, cut), HasSubstr("got no such tensor"));
}

TEST_F(TextLoading, StatesThatAreNotFiniteNameTheEncoder) {
  const auto poison = [](const char* ending) {
    return [ending](Tensors& tensors) {
      for (auto& [name, tensor] : tensors) {
        if (name.ends_with(ending)) tensor.fill_(3e38);  // finite as a weight, not times a state
      }
    };
  };
  const std::vector<PromptIds> ids = {{.ids = {1, 2, 3}}};
  ClipTextModel clip = load_clip_text(
      edited("text_flux/text_encoder", poison("final_layer_norm.weight")), torch::kFloat32);
  EXPECT_EQ(refusal([&] { clip_pooled(clip, ids); }),
            "text encoder CLIP: required finite values, got infinity or NaN");
  T5Encoder t5 = load_t5_encoder(
      edited("text_flux/text_encoder_2", poison("final_layer_norm.weight")), torch::kFloat32);
  EXPECT_THAT(refusal([&] { t5_tokens(t5, ids); }), HasSubstr("text encoder T5: required finite"));
  DecoderModel qwen = load_qwen_image_text_encoder(
      edited("text_qwen_image/text_encoder", poison("model.norm.weight")), torch::kFloat32);
  EXPECT_THAT(refusal([&] { decoder_tokens(qwen, ids, 0); }),
              HasSubstr("text encoder Qwen: required finite"));
}

TEST_F(TextLoading, T5InFp16IsAUsageError) {
  EXPECT_THROW(load_t5_encoder(kGoldens / "text_flux" / "text_encoder_2", torch::kFloat16),
               UsageError);
}

TEST_F(TextLoading, IdsAndLengthsHaveToFitTheModel) {
  ClipTextModel clip = load_clip_text(kGoldens / "text_flux" / "text_encoder", torch::kFloat32);
  EXPECT_THAT(refusal([&] {
                clip(torch::zeros({1, 78}, torch::kInt64));
              }),
              HasSubstr("CLIP: required at most 77 tokens, got 78"));
  EXPECT_THAT(refusal([&] {
                clip(torch::full({1, 4}, 100000, torch::kInt64));
              }),
              HasSubstr("token table: required ids from 0 to"));
  const std::vector<PromptIds> uneven = {{.ids = {1, 2}}, {.ids = {1}}};
  EXPECT_THAT(refusal([&] { clip_pooled(clip, uneven); }), HasSubstr("padded to one length"));
}

TEST(T5PositionBuckets, AreThoseOfTheLogarithm) {
  const std::int64_t length = 512;
  const torch::Tensor buckets = t5_position_buckets(length);
  for (std::int64_t distance = 0; distance < length; ++distance) {
    std::int64_t expected = distance;
    if (distance >= 8) {
      const double place = std::log(static_cast<double>(distance) / 8) / std::log(128.0 / 8) * 8;
      expected = std::min<std::int64_t>(15, 8 + static_cast<std::int64_t>(place + 1e-9));
    }
    EXPECT_EQ((buckets[distance][0].item<std::int64_t>()), expected) << distance;
    if (distance > 0) {
      EXPECT_EQ((buckets[0][distance].item<std::int64_t>()), 16 + expected) << distance;
    }
  }
}

}  // namespace
}  // namespace rtlynx
