// SPDX-License-Identifier: Apache-2.0
// Prompts through tokenizer and text encoder against diffusers' own pipelines
// (tools/make_text_goldens.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"
#include "models/tensor_bytes.h"
#include "models/text/text_features.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens = fs::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens";

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  const torch::Tensor exact = reference.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
}

class TextParity : public testing::Test {
 protected:
  explicit TextParity(const char* name)
      : folder_(kGoldens / name), io_(SafetensorsFile::open(folder_ / "io.safetensors")) {
    const nlohmann::json json = read_json_file(kGoldens / "text_prompts.json");
    prompts_ = json["prompts"].get<std::vector<std::string>>();
    t5_length_ = json["t5_length"];
    decoder_tokens_ = json["decoder_tokens"];
  }

  torch::Tensor golden(const std::string& name) const {
    return copy_to_tensor(io_.entry(name), name);
  }

  /// fp32 to 1e-5; bf16 at most twice as far from fp32 as transformers' own bf16.
  void expect_parity(const std::string& name, const torch::Tensor& fp32,
                     const torch::Tensor& bf16) const {
    const torch::Tensor exact = golden(name);
    ASSERT_EQ(fp32.sizes(), exact.sizes()) << name;
    EXPECT_LE(relative_error(fp32, exact), 1e-5) << name;
    const double theirs = relative_error(golden(name + ".bf16"), exact);
    EXPECT_GT(theirs, 1e-4) << "the golden is not of bf16";
    EXPECT_LE(relative_error(bf16, exact), 2 * theirs) << name;
  }

  fs::path folder_;
  SafetensorsFile io_;
  std::vector<std::string> prompts_;
  std::int64_t t5_length_ = 0, decoder_tokens_ = 0;
};

class FluxText : public TextParity {
 protected:
  FluxText() : TextParity("text_flux") {}
};

TEST_F(FluxText, ClipPooledRowsMatchDiffusers) {
  const BytePairTokenizer tokenizer(folder_ / "tokenizer", clip_tokenizer_options());
  std::vector<PromptIds> ids;
  for (const std::string& prompt : prompts_) ids.push_back(clip_prompt_ids(tokenizer, prompt));
  const auto run = [&](torch::ScalarType type) {
    ClipTextModel model = load_clip_text(folder_ / "text_encoder", type);
    return clip_pooled(model, ids);
  };
  expect_parity("pooled", run(torch::kFloat32), run(torch::kBFloat16));
}

TEST_F(FluxText, T5StatesMatchDiffusers) {
  const T5Tokenizer tokenizer(folder_ / "tokenizer_2");
  const std::vector<PromptIds> ids = {t5_prompt_ids(tokenizer, prompts_.at(2), t5_length_),
                                      t5_prompt_ids(tokenizer, prompts_.at(3), t5_length_)};
  EXPECT_EQ(ids[0].cut, 0);
  EXPECT_GT(ids[1].cut, 0);
  const auto run = [&](torch::ScalarType type) {
    T5Encoder model = load_t5_encoder(folder_ / "text_encoder_2", type);
    return t5_tokens(model, ids);
  };
  expect_parity("tokens", run(torch::kFloat32), run(torch::kBFloat16));
}

class DecoderText : public TextParity {
 protected:
  using TextParity::TextParity;

  void expect_states(DecoderModel (*load)(const fs::path&, const torch::TensorOptions&,
                                          const LoadProgress&),
                     const PromptTemplate& around) {
    const BytePairTokenizer tokenizer(folder_ / "tokenizer", qwen2_tokenizer_options());
    std::vector<PromptIds> ids;
    std::int64_t cut = 0;
    for (const std::string& prompt : prompts_) {
      ids.push_back(templated_prompt_ids(tokenizer, around, prompt, decoder_tokens_));
      cut += ids.back().cut;
    }
    EXPECT_GT(cut, 0) << "one prompt has to be too long";
    const auto run = [&](torch::ScalarType type) {
      DecoderModel model = load(folder_ / "text_encoder", type, LoadProgress());
      return decoder_tokens(model, ids, around.dropped);
    };
    const auto fp32 = run(torch::kFloat32);
    const auto bf16 = run(torch::kBFloat16);
    for (std::size_t i = 0; i < prompts_.size(); ++i) {
      expect_parity("states." + std::to_string(i), fp32[i], bf16[i]);
    }
  }
};

class QwenImageText : public DecoderText {
 protected:
  QwenImageText() : DecoderText("text_qwen_image") {}
};

TEST_F(QwenImageText, StatesMatchDiffusers) {
  expect_states(load_qwen_image_text_encoder, kQwenImageTemplate);
}

class ZImageText : public DecoderText {
 protected:
  ZImageText() : DecoderText("text_z_image") {}
};

TEST_F(ZImageText, StatesMatchDiffusers) {
  expect_states(load_z_image_text_encoder, kZImageTemplate);
}

}  // namespace
}  // namespace rtlynx
