// SPDX-License-Identifier: Apache-2.0
#include "models/parameters.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "base/error.h"
#include "io/safetensors.h"
#include "layers/sparse_linear.h"
#include "models/tensor_bytes.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;

class Parameters : public testing::Test {
 protected:
  // A Linear of 8 inputs and 4 outputs, loaded from `tensors`; the error, or "loaded".
  std::string load(const Tensors& tensors, torch::ScalarType type = torch::kFloat32,
                   const StoredTensors& stored = {}) {
    const TensorBytes bytes(tensors);
    write_safetensors(folder_ / "model.safetensors", bytes.entries());
    linear_ = SparseLinear(8, 4, torch::TensorOptions().dtype(type));
    try {
      load_parameters(*linear_, folder_, "model", stored);
    } catch (const Error& error) {
      return error.what();
    }
    return "loaded";
  }

  test::TempDir temporary_;
  std::filesystem::path folder_ = temporary_.path();
  SparseLinear linear_{nullptr};
};

TEST_F(Parameters, AreConvertedToTheModulesType) {
  const torch::Tensor weight = torch::randn({4, 8});
  const torch::Tensor bias = torch::randn({4});
  ASSERT_EQ(load({{"weight", weight.to(torch::kFloat64)}, {"bias", bias}}, torch::kBFloat16),
            "loaded");
  EXPECT_EQ(linear_->weight.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(linear_->weight.equal(weight.to(torch::kBFloat16)));
  EXPECT_TRUE(linear_->bias.equal(bias.to(torch::kBFloat16)));
}

TEST_F(Parameters, OfAModuleOnTheMetaDeviceAreChecked) {
  ASSERT_EQ(load({{"weight", torch::zeros({4, 8})}, {"bias", torch::zeros({4})}}), "loaded");
  int calls = 0;
  const LoadProgress count = [&](std::uint64_t, std::uint64_t) { ++calls; };
  load_parameters(*SparseLinear(8, 4, torch::kMeta), folder_, "model", {}, count);
  EXPECT_EQ(calls, 0) << "nothing was read";
  EXPECT_THROW(load_parameters(*SparseLinear(4, 8, torch::kMeta), folder_, "model"), Error);
}

TEST_F(Parameters, MissingTensorIsNamed) {
  const std::string message = load({{"weight", torch::zeros({4, 8})}});
  EXPECT_NE(message.find("tensor bias: required shape [4], got no such tensor"), std::string::npos)
      << message;
}

TEST_F(Parameters, UnexpectedTensorIsNamed) {
  const std::string message = load({{"weight", torch::zeros({4, 8})},
                                    {"bias", torch::zeros({4})},
                                    {"lora_A.weight", torch::zeros({1})}});
  EXPECT_NE(message.find("model.safetensors, tensor lora_A.weight"), std::string::npos) << message;
}

TEST_F(Parameters, WrongShapeAndTypeAreNamed) {
  std::string message = load({{"weight", torch::zeros({8, 4})}, {"bias", torch::zeros({4})}});
  EXPECT_NE(message.find("model.safetensors, tensor weight: required shape [4, 8], got [8, 4]"),
            std::string::npos)
      << message;
  message = load({{"weight", torch::zeros({4, 8}, torch::kInt32)}, {"bias", torch::zeros({4})}});
  EXPECT_NE(message.find("floating-point type, got I32"), std::string::npos) << message;
}

TEST_F(Parameters, WhatIsNotFiniteIsNamed) {
  torch::Tensor weight = torch::zeros({4, 8});
  weight[2][3] = std::numeric_limits<float>::quiet_NaN();
  std::string message = load({{"weight", weight}, {"bias", torch::zeros({4})}});
  EXPECT_NE(message.find("model.safetensors, tensor weight: required finite values, got NaN at "
                         "[2, 3]"),
            std::string::npos)
      << message;
  // Finite in the file, and not as what it is used as.
  const torch::Tensor large = torch::full({4}, 1e5);
  EXPECT_EQ(load({{"weight", torch::zeros({4, 8})}, {"bias", large}}), "loaded");
  message = load({{"weight", torch::zeros({4, 8})}, {"bias", large}}, torch::kFloat16);
  EXPECT_NE(message.find("tensor bias: required finite values, got infinity at [0]"),
            std::string::npos)
      << message;
}

TEST_F(Parameters, FormsThatAreNotReadAreNamed) {
  const std::string message =
      load({{"weight", torch::zeros({4, 8})}, {"weight.scale_weight", torch::ones({1})}});
  EXPECT_NE(message.find("scaled FP8"), std::string::npos) << message;
}

TEST_F(Parameters, WhatIsNotFiniteIsNotSaved) {
  SparseLinear saved(8, 4);
  const torch::NoGradGuard no_grad;
  saved->weight.fill_(3.4e38F);  // infinite as bf16
  saved->bias.zero_();
  EXPECT_THROW(save_parameters(*saved, folder_, "model", torch::kBFloat16, /*max_shard_bytes=*/64),
               Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(Parameters, MayStandBehindOneOfSeveralPrefixes) {
  const torch::Tensor weight = torch::randn({4, 8});
  const torch::Tensor bias = torch::randn({4});
  const StoredTensors stored{.prefixes = {"model.language.", "model.", ""}};
  for (const std::string& prefix : stored.prefixes) {
    ASSERT_EQ(load({{prefix + "weight", weight}, {prefix + "bias", bias}}, torch::kFloat32, stored),
              "loaded");
    EXPECT_TRUE(linear_->weight.equal(weight));
  }
  const std::string message =
      load({{"model.weight", weight}, {"bias", bias}}, torch::kFloat32, stored);
  EXPECT_NE(message.find("tensor model.bias: required shape [4], got no such tensor"),
            std::string::npos)
      << message;
}

TEST_F(Parameters, IgnoredTensorsAreKnownByNameOrByTheBeginningOfIt) {
  const Tensors needed = {{"model.weight", torch::zeros({4, 8})},
                          {"model.bias", torch::zeros({4})}};
  const StoredTensors stored{.prefixes = {"model."}, .ignored = {"head.weight", "layers.3."}};
  const auto load_with = [&](const std::string& name) {
    Tensors tensors = needed;
    tensors.emplace_back(name, torch::zeros({2}, torch::kInt64));
    return load(tensors, torch::kFloat32, stored);
  };
  EXPECT_EQ(load_with("head.weight"), "loaded");
  EXPECT_EQ(load_with("model.head.weight"), "loaded");
  EXPECT_EQ(load_with("model.layers.3.norm.weight"), "loaded");
  for (const char* name : {"head.weight_scale", "model.layers.30.weight", "my.layers.3.weight"}) {
    EXPECT_NE(load_with(name).find(name), std::string::npos) << name;
  }
}

TEST_F(Parameters, MayBeMadeOfWhatIsStored) {
  const torch::Tensor stored_weight = torch::randn({4, 8, 3});
  const StoredTensors last{.convert = [](const std::string& name, const torch::Tensor& value) {
    return name == "weight" ? value.select(2, -1) : value;
  }};
  ASSERT_EQ(load({{"weight", stored_weight}, {"bias", torch::zeros({4})}}, torch::kFloat32, last),
            "loaded");
  EXPECT_TRUE(linear_->weight.equal(stored_weight.select(2, 2)));
}

TEST_F(Parameters, SavedInShardsTheyComeBack) {
  SparseLinear saved(8, 4);
  const torch::NoGradGuard no_grad;
  saved->weight.normal_();
  saved->bias.normal_();
  save_parameters(*saved, folder_, "model", torch::kBFloat16, /*max_shard_bytes=*/64);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "model.safetensors.index.json"));
  SparseLinear read(8, 4);
  load_parameters(*read, folder_, "model");
  EXPECT_TRUE(read->weight.equal(saved->weight.to(torch::kBFloat16).to(torch::kFloat32)));
}

}  // namespace
}  // namespace rtlynx
