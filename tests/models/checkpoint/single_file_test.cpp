// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/single_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

#include "io/safetensors.h"
#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/qwen_image/small_qwen_image.h"
#include "models/qwen_image/transformer.h"
#include "models/tensor_bytes.h"
#include "models/z_image/small_z_image.h"
#include "models/z_image/transformer.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using testing::HasSubstr;

using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;

/// A model's tensors under foreign names: what the table says, the other way round. Modules that
/// are not in it keep their own.
Tensors foreign_names(const torch::nn::Module& model, const std::vector<ForeignModule>& foreign) {
  const auto parameters = model.named_parameters();
  std::set<std::string> own;
  for (const auto& item : parameters) own.insert(item.key());
  Tensors tensors;
  for (const ForeignModule& module : foreign) {
    if (module.name.find("processor") != std::string::npos) continue;  // of LoRAs alone
    for (const std::string tensor : {"weight", "bias"}) {
      std::vector<torch::Tensor> parts;
      for (const std::string& part : module.parts) {
        const std::string name = part + "." + tensor;
        if (own.erase(name) > 0) parts.push_back(parameters[name]);
      }
      if (parts.empty()) continue;
      torch::Tensor whole = torch::cat(parts);
      if (module.halves_swapped) whole = torch::cat({whole.chunk(2)[1], whole.chunk(2)[0]});
      tensors.emplace_back(module.name + "." + (tensor == "weight" ? module.weight : tensor),
                           whole);
    }
  }
  for (const std::string& name : own) tensors.emplace_back(name, parameters[name]);
  return tensors;
}

/// With random values, so that no two parameters are alike.
void fill(torch::nn::Module& model) {
  torch::manual_seed(3);
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model.parameters()) parameter.normal_();
}

void expect_same_values(const torch::nn::Module& loaded, const torch::nn::Module& original,
                        double tolerance = 0) {
  const auto values = loaded.named_parameters();
  for (const auto& item : original.named_parameters()) {
    EXPECT_TRUE(torch::allclose(values[item.key()], item.value(), tolerance, tolerance))
        << item.key();
  }
}

std::filesystem::path written(const std::filesystem::path& path, const Tensors& tensors) {
  const TensorBytes bytes(tensors);
  write_safetensors(path, bytes.entries());
  return path;
}

Tensors prefixed(const Tensors& tensors) {
  Tensors result;
  for (const auto& [name, tensor] : tensors) {
    result.emplace_back("model.diffusion_model." + name, tensor);
  }
  return result;
}

class SingleFile : public testing::Test {
 protected:
  SingleFile() { fill(*original_); }

  Tensors original_names() { return foreign_names(*original_, flux_foreign_modules(1, 1)); }

  std::filesystem::path write(const Tensors& tensors) {
    return written(temporary_ / "flux.safetensors", tensors);
  }

  std::string load(const Tensors& tensors) {
    return refusal([&] { load_single_file(*loaded_, write(tensors), flux_foreign_modules(1, 1)); });
  }

  void expect_equal(double tolerance = 0) { expect_same_values(*loaded_, *original_, tolerance); }

  FluxTransformer original_{test::small_flux_config()};
  FluxTransformer loaded_{test::small_flux_config()};
  test::TempDir temporary_;
};

TEST_F(SingleFile, OriginalNamesFillEveryParameter) {
  ASSERT_EQ(load(original_names()), "accepted");
  expect_equal();
}

// A name that BFL's files really have, spelled out: the table is not only its own inverse.
TEST_F(SingleFile, TheNamesAreBfls) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : original_names()) names.insert(name);
  for (const char* name :
       {"double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn.norm.key_norm.scale",
        "double_blocks.0.txt_mlp.2.bias", "double_blocks.0.img_mod.lin.weight",
        "single_blocks.0.linear1.weight", "single_blocks.0.linear2.bias",
        "single_blocks.0.modulation.lin.weight", "single_blocks.0.norm.query_norm.scale",
        "img_in.weight", "txt_in.bias", "time_in.in_layer.weight", "vector_in.out_layer.bias",
        "final_layer.linear.weight", "final_layer.adaLN_modulation.1.bias"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST_F(SingleFile, ThePrefixOfComfyUiAndOtherModelsMayBeThere) {
  Tensors tensors = prefixed(original_names());
  tensors.emplace_back("first_stage_model.decoder.conv_in.weight", torch::zeros({2}));
  tensors.emplace_back("model.diffusion_model.scaled_fp8", torch::zeros({0}));
  ASSERT_EQ(load(tensors), "accepted");
  expect_equal();
}

TEST_F(SingleFile, OurOwnNamesAreTakenAsTheyAre) {
  Tensors tensors;
  for (const auto& item : original_->named_parameters()) {
    tensors.emplace_back(item.key(), item.value());
  }
  ASSERT_EQ(load(tensors), "accepted");
  expect_equal();
  ASSERT_EQ(load(prefixed(tensors)), "accepted");
}

TEST_F(SingleFile, Fp8WeightsAreReadWithTheirScales) {
  for (const char* scale_name : {".scale_weight", ".weight_scale"}) {
    Tensors tensors;
    for (const auto& [name, tensor] : original_names()) {
      if (!name.ends_with(".weight")) {
        tensors.emplace_back(name, tensor);
        continue;
      }
      const float scale = tensor.abs().max().item<float>() / 448;
      tensors.emplace_back(name, (tensor / scale).to(torch::kFloat8_e4m3fn));
      const std::string module = name.substr(0, name.size() - std::string(".weight").size());
      tensors.emplace_back(module + scale_name, torch::tensor(scale));
      tensors.emplace_back(module + ".scale_input", torch::tensor(1.0f));
    }
    ASSERT_EQ(load(tensors), "accepted");
    expect_equal(/*tolerance=*/0.0626);  // half a step of 3 bits
  }
}

TEST_F(SingleFile, PlainFp8IsConverted) {
  Tensors tensors;
  const torch::NoGradGuard no_grad;
  for (auto& parameter : original_->parameters()) {
    parameter.copy_(parameter.to(torch::kFloat8_e4m3fn).to(torch::kFloat32));
  }
  for (const auto& [name, tensor] : original_names()) {
    tensors.emplace_back(name, tensor.to(torch::kFloat8_e4m3fn));
  }
  ASSERT_EQ(load(tensors), "accepted");
  expect_equal();
}

TEST_F(SingleFile, ValuesThatAreNotFiniteAreNamed) {
  const std::string name = "double_blocks.0.txt_attn.qkv.weight";
  const auto with = [&](const std::function<torch::Tensor(const torch::Tensor&)>& change) {
    Tensors tensors = original_names();
    for (auto& [other, tensor] : tensors) {
      if (other == name) tensor = change(tensor.clone());
    }
    return tensors;
  };
  EXPECT_THAT(load(with([](torch::Tensor whole) {
                whole[40][3] = NAN;
                return whole;
              })),
              HasSubstr("flux.safetensors, tensor " + name +
                        " from row 32 on: required finite values, got NaN at [8, 3], 1 such among "
                        "1024"));
  // e4m3 has NaN, and no infinity.
  EXPECT_THAT(load(with([](torch::Tensor whole) {
                whole[0][0] = NAN;
                return whole.to(torch::kFloat8_e4m3fn);
              })),
              HasSubstr("tensor " + name + " from row 0 on: required finite values, got NaN"));
  Tensors scaled = with([](const torch::Tensor& whole) { return whole.sign() * 4; });
  scaled.emplace_back("double_blocks.0.txt_attn.qkv.scale_weight", torch::tensor(1e38f));
  EXPECT_THAT(load(scaled), HasSubstr("tensor " + name + " from row 0 on: required finite values"));
}

TEST_F(SingleFile, AScaleThatIsNotFiniteIsNamedBeforeAnythingIsFilled) {
  Tensors tensors = original_names();
  tensors.emplace_back("single_blocks.0.linear2.scale_weight", torch::tensor(INFINITY));
  const auto path = write(tensors);
  EXPECT_THAT(refusal([&] { check_single_file(*loaded_, path, flux_foreign_modules(1, 1)); }),
              HasSubstr("tensor single_blocks.0.linear2.scale_weight: required a finite value"));
}

TEST_F(SingleFile, WhatDoesNotFitIsNamed) {
  Tensors missing = original_names();
  std::erase_if(missing, [](const auto& item) { return item.first == "img_in.bias"; });
  EXPECT_THAT(load(missing), HasSubstr("tensor img_in.bias: required shape [32], got no such"));
  Tensors extra = original_names();
  extra.emplace_back("distilled_guidance_layer.weight", torch::zeros({2}));
  EXPECT_THAT(load(extra), HasSubstr("tensor distilled_guidance_layer.weight: required only"));
  Tensors narrow = original_names();
  for (auto& [name, tensor] : narrow) {
    if (name == "single_blocks.0.linear1.weight") tensor = tensor.narrow(0, 0, 100);
  }
  EXPECT_THAT(load(narrow),
              HasSubstr("tensor single_blocks.0.linear1.weight: required rows 96 to"));
  Tensors integers = original_names();
  integers.front().second = integers.front().second.to(torch::kInt32);
  EXPECT_THAT(load(integers), HasSubstr("required a floating-point type, got I32"));
}

class ZImageSingleFile : public testing::Test {
 protected:
  ZImageSingleFile() { fill(*original_); }

  Tensors original_names() const { return foreign_names(*original_, names_); }
  std::string load(const Tensors& tensors) {
    return refusal([&] {
      load_single_file(*loaded_, written(temporary_ / "z.safetensors", tensors), names_);
    });
  }

  const std::vector<ForeignModule> names_ =
      z_image_foreign_modules({"noise_refiner.0", "context_refiner.0", "layers.0"});
  ZImageTransformer original_{test::small_z_image_config()};
  ZImageTransformer loaded_{test::small_z_image_config()};
  test::TempDir temporary_;
};

TEST_F(ZImageSingleFile, OriginalNamesFillEveryParameter) {
  ASSERT_EQ(load(original_names()), "accepted");
  expect_same_values(*loaded_, *original_);
  // ComfyUI's files have the prefix, and a norm of the training that the transformer has no use
  // for.
  Tensors tensors = prefixed(original_names());
  tensors.emplace_back("model.diffusion_model.norm_final.weight", torch::ones({32}));
  ASSERT_EQ(load(tensors), "accepted");
  expect_same_values(*loaded_, *original_);
}

// Names that Z-Image's files really have, spelled out.
TEST_F(ZImageSingleFile, TheNamesAreThoseOfItsFiles) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : original_names()) names.insert(name);
  for (const char* name :
       {"layers.0.attention.qkv.weight", "layers.0.attention.out.weight",
        "layers.0.attention.q_norm.weight", "noise_refiner.0.attention.k_norm.weight",
        "context_refiner.0.attention.qkv.weight", "layers.0.attention_norm1.weight",
        "layers.0.feed_forward.w2.weight", "layers.0.adaLN_modulation.0.bias", "x_embedder.bias",
        "cap_embedder.0.weight", "cap_embedder.1.bias", "t_embedder.mlp.2.weight",
        "final_layer.linear.weight", "final_layer.adaLN_modulation.1.bias", "x_pad_token",
        "cap_pad_token"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST_F(ZImageSingleFile, WhatDoesNotFitIsNamed) {
  Tensors missing = original_names();
  std::erase_if(missing, [](const auto& item) { return item.first == "x_embedder.bias"; });
  EXPECT_THAT(load(missing), HasSubstr("tensor x_embedder.bias: required shape [32], got no such"));
  Tensors narrow = original_names();
  for (auto& [name, tensor] : narrow) {
    if (name == "layers.0.attention.qkv.weight") tensor = tensor.narrow(0, 0, 64);
  }
  EXPECT_THAT(load(narrow),
              HasSubstr("tensor layers.0.attention.qkv.weight: required rows 64 to 96"));
}

// ComfyUI's files of Qwen-Image have diffusers' names, most of them in FP8.
TEST(QwenImageSingleFile, ComfyUisNamesFillEveryParameter) {
  QwenImageTransformer original{test::small_qwen_image_config()};
  QwenImageTransformer loaded{test::small_qwen_image_config()};
  fill(*original);
  const Tensors own = foreign_names(*original, {});
  std::set<std::string> names;
  for (const auto& [name, tensor] : own) names.insert(name);
  for (const char* name :
       {"img_in.weight", "txt_in.bias", "txt_norm.weight", "norm_out.linear.weight",
        "proj_out.weight", "time_text_embed.timestep_embedder.linear_1.weight",
        "transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.attn.add_k_proj.bias",
        "transformer_blocks.0.attn.to_out.0.weight", "transformer_blocks.0.attn.to_add_out.bias",
        "transformer_blocks.0.attn.norm_added_q.weight", "transformer_blocks.0.img_mod.1.weight",
        "transformer_blocks.0.img_mlp.net.0.proj.weight",
        "transformer_blocks.0.txt_mlp.net.2.bias"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  test::TempDir temporary;
  for (const Tensors& tensors : {own, prefixed(own)}) {
    load_single_file(*loaded, written(temporary / "plain.safetensors", tensors), {});
    expect_same_values(*loaded, *original);
  }
  Tensors scaled;
  for (const auto& [name, tensor] : own) {
    const bool rounded =
        name.starts_with("transformer_blocks") && name.ends_with(".weight") && tensor.dim() == 2;
    scaled.emplace_back(name, rounded ? (tensor / 2).to(torch::kFloat8_e4m3fn) : tensor);
    if (!rounded) continue;
    const std::string module = name.substr(0, name.size() - std::string("weight").size());
    scaled.emplace_back(module + "scale_weight", torch::tensor(2.0f));
  }
  scaled.emplace_back("scaled_fp8", torch::zeros({2}).to(torch::kFloat8_e4m3fn));
  load_single_file(*loaded, written(temporary / "scaled.safetensors", scaled), {});
  expect_same_values(*loaded, *original, /*tolerance=*/0.0626);  // half a step of 3 bits
}

}  // namespace
}  // namespace rtlynx
