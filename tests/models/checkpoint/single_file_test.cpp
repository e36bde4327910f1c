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
#include "models/tensor_bytes.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using testing::HasSubstr;

using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;

class SingleFile : public testing::Test {
 protected:
  SingleFile() {
    torch::manual_seed(3);
    const torch::NoGradGuard no_grad;
    for (auto& parameter : original_->parameters()) parameter.normal_();
  }

  /// The model's tensors under BFL's names: what flux_foreign_modules says, the other way round.
  Tensors original_names() {
    const auto parameters = original_->named_parameters();
    Tensors tensors;
    for (const ForeignModule& module : flux_foreign_modules(1, 1)) {
      if (module.name.find("processor") != std::string::npos) continue;
      for (const char* tensor : {"weight", "bias"}) {
        std::vector<torch::Tensor> parts;
        for (const std::string& part : module.parts) {
          const auto* found = parameters.find(part + "." + tensor);
          if (found != nullptr) parts.push_back(*found);
        }
        if (parts.empty()) continue;
        torch::Tensor whole = torch::cat(parts);
        if (module.halves_swapped) {
          whole = torch::cat({whole.chunk(2)[1], whole.chunk(2)[0]});
        }
        const std::string kind = tensor;
        tensors.emplace_back(module.name + "." + (kind == "weight" ? module.weight : kind), whole);
      }
    }
    return tensors;
  }

  std::filesystem::path write(const Tensors& tensors) {
    const TensorBytes bytes(tensors);
    const auto path = temporary_ / "flux.safetensors";
    write_safetensors(path, bytes.entries());
    return path;
  }

  std::string load(const Tensors& tensors) {
    return refusal([&] { load_single_file(*loaded_, write(tensors), flux_foreign_modules(1, 1)); });
  }

  void expect_equal(double tolerance = 0) {
    const auto loaded = loaded_->named_parameters();
    for (const auto& item : original_->named_parameters()) {
      EXPECT_TRUE(torch::allclose(loaded[item.key()], item.value(), tolerance, tolerance))
          << item.key();
    }
  }

  static Tensors prefixed(const Tensors& tensors) {
    Tensors result;
    for (const auto& [name, tensor] : tensors) {
      result.emplace_back("model.diffusion_model." + name, tensor);
    }
    return result;
  }

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

}  // namespace
}  // namespace rtlynx
