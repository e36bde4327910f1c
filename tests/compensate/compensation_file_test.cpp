// SPDX-License-Identifier: Apache-2.0
#include "compensate/compensation_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "io/file.h"
#include "io/safetensors.h"
#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/recipe.h"
#include "models/revision.h"
#include "models/tensor_bytes.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kRank = 4;
constexpr std::int64_t kDim = 32;  // of the small FLUX
constexpr const char* kQuery = "transformer_blocks.0.attn.to_q";
constexpr const char* kKey = "transformer_blocks.0.attn.to_k";
constexpr const char* kShared = "transformer_blocks.0.attn.to_qkv";
constexpr const char* kDown = "transformer_blocks.0.ff.net.2";

FluxTransformer small_flux(std::uint64_t seed = 71) {
  FluxTransformer model(test::small_flux_config());
  torch::manual_seed(seed);
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) item.value().normal_();
  return model;
}

torch::Tensor bf16(torch::IntArrayRef shape) { return torch::randn(shape).to(torch::kBFloat16); }

ModelCompensation sample(const FluxTransformer& model) {
  InputTransform shared;
  shared.blocks = bf16({kDim / 16, 16, 16});
  InputTransform dealt;
  dealt.scale = bf16({4 * kDim});
  dealt.permutation = torch::randperm(4 * kDim);
  ModelCompensation all{.base_model = "small",
                        .base_revision = weights_revision(*model),
                        .method = "joint",
                        .transform = "block 16",
                        .recipe = "paper",
                        .rank = kRank,
                        .layers = {}};
  const auto add = [&](const char* name, const char* input, const InputTransform& transform) {
    const std::int64_t channels = transform.scale.defined() ? 4 * kDim : kDim;
    LayerCompensation layer{.input = input, .values = {}};
    layer.values = {.norm = name == kQuery,
                    .transform = transform,
                    .weight = bf16({kDim, channels}),
                    .down = bf16({kRank, channels}),
                    .up = bf16({kDim, kRank})};
    all.layers.emplace(name, layer);
  };
  add(kQuery, kShared, shared);
  add(kKey, kShared, shared);
  add(kDown, kDown, dealt);
  return all;
}

using Tensors = std::map<std::string, torch::Tensor>;

class CompensationFile : public testing::Test {
 protected:
  CompensationFile() { write_compensation(path_, sample(model_)); }

  // The file with a change to its parts, and what the reader says of it.
  std::string changed(const std::function<void(Tensors&, SafetensorsMetadata&)>& change) {
    const SafetensorsFile file = SafetensorsFile::open(path_);
    Tensors tensors;
    for (const auto& name : file.names()) {
      tensors[name] = copy_to_tensor(file.entry(name), name);
    }
    SafetensorsMetadata metadata = file.metadata();
    change(tensors, metadata);
    const TensorBytes bytes({tensors.begin(), tensors.end()});
    write_safetensors(folder_ / "changed", bytes.entries(), metadata);
    return refusal([&] { read_compensation(folder_ / "changed"); });
  }
  std::string with_metadata(const std::string& key, const std::string& value) {
    return changed([&](Tensors&, SafetensorsMetadata& metadata) { metadata[key] = value; });
  }

  void expect_refused(const std::string& message, const std::string& reason) {
    EXPECT_NE(message.find(reason), std::string::npos) << message;
  }

  test::TempDir folder_;
  std::filesystem::path path_ = folder_ / "c.safetensors";
  FluxTransformer model_ = small_flux();
};

TEST_F(CompensationFile, ComesBackAsItWas) {
  const ModelCompensation saved = sample(model_);
  write_compensation(path_, saved);
  const ModelCompensation read = read_compensation(path_);
  EXPECT_EQ(read.base_model, "small");
  EXPECT_EQ(read.base_revision, saved.base_revision);
  EXPECT_EQ(read.method, "joint");
  EXPECT_EQ(read.transform, "block 16");
  EXPECT_EQ(read.recipe, "paper");
  EXPECT_EQ(read.rank, kRank);
  ASSERT_EQ(read.layers.size(), 3U);
  for (const auto& [name, layer] : saved.layers) {
    const Compensation24& values = read.layers.at(name).values;
    EXPECT_EQ(values.norm, layer.values.norm);
    EXPECT_TRUE(values.weight.equal(layer.values.weight));
    EXPECT_TRUE(values.down.equal(layer.values.down));
    EXPECT_TRUE(values.up.equal(layer.values.up));
  }
  EXPECT_TRUE(read.layers.at(kDown).values.transform.permutation.equal(
      saved.layers.at(kDown).values.transform.permutation));
}

TEST_F(CompensationFile, HoldsSharedTensorsOnceAndSaysNothingOfLora) {
  const SafetensorsFile file = SafetensorsFile::open(path_);
  EXPECT_TRUE(file.contains(std::string("rtlynx.") + kShared + ".transform"));
  EXPECT_EQ(file.names().size(), 3 * 3 + 1 + 2U);
  for (const auto& name : file.names()) {
    EXPECT_TRUE(name.starts_with("rtlynx."));
    EXPECT_EQ(name.find("lora"), std::string::npos);
  }
  const ModelCompensation read = read_compensation(path_);
  EXPECT_TRUE(read.layers.at(kQuery).values.transform.blocks.is_same(
      read.layers.at(kKey).values.transform.blocks));
}

TEST_F(CompensationFile, SaysWhichLayersAreE4m3) {
  ModelCompensation saved = sample(model_);
  saved.layers.at(kQuery).values.e4m3 = saved.layers.at(kKey).values.e4m3 = true;
  write_compensation(path_, saved);
  const SafetensorsMetadata metadata = SafetensorsFile::open(path_).metadata();
  EXPECT_EQ(metadata.at("format_version"), "4");
  for (const auto& [name, layer] : read_compensation(path_).layers) {
    EXPECT_EQ(layer.values.e4m3, name == kQuery || name == kKey) << name;
  }
  std::string targets = metadata.at("targets");
  targets.replace(targets.find("\"e4m3\""), 6, "\"e5m2\"");
  expect_refused(with_metadata("targets", targets), "required values e4m3, got e5m2");
}

TEST_F(CompensationFile, NeedsNoWeightBehindATransform) {
  ModelCompensation saved = sample(model_);
  for (auto& [name, layer] : saved.layers) layer.values.weight = torch::Tensor();
  write_compensation(path_, saved);
  EXPECT_EQ(SafetensorsFile::open(path_).metadata().at("format_version"), "3");
  apply_compensation(*model_, read_compensation(path_), "file");
  for (const NamedLinear& layer : named_linears(*model_)) {
    const auto found = saved.layers.find(layer.name);
    if (found == saved.layers.end()) continue;
    const torch::Tensor wanted = found->second.values.transform.weight_for_z(layer.linear->weight);
    EXPECT_TRUE(layer.linear->compensation()->weight.equal(wanted.to(layer.linear->weight)))
        << layer.name;
  }
}

TEST_F(CompensationFile, IsAppliedToItsLayersAlone) {
  apply_compensation(*model_, read_compensation(path_), "c");
  for (const auto& [name, linear] : named_linears(*model_)) {
    const bool target = name == kQuery || name == kKey || name == kDown;
    EXPECT_EQ(linear->mode(), target ? LinearMode::compensated : LinearMode::dense) << name;
    EXPECT_EQ(linear->compensation() != nullptr, target) << name;
  }
}

TEST_F(CompensationFile, UpIsScaledByAlphaOverRank) {
  const SafetensorsFile file = SafetensorsFile::open(path_);
  const std::string key = std::string("rtlynx.") + kQuery + ".up";
  const torch::Tensor up = copy_to_tensor(file.entry(key), key);
  ASSERT_EQ(with_metadata("alpha", "2"), "accepted");
  EXPECT_TRUE(read_compensation(folder_ / "changed").layers.at(kQuery).values.up.equal(0.5 * up));
}

TEST_F(CompensationFile, AnAlphaThatOverflowsIsRefused) {
  const std::string message = changed([&](Tensors& tensors, SafetensorsMetadata& metadata) {
    tensors[std::string("rtlynx.") + kQuery + ".up"].fill_(3e38);
    metadata["alpha"] = "1000000";
  });
  expect_refused(message, "required an alpha that keeps up finite in bf16, at rank 4, got 1000000");
}

TEST_F(CompensationFile, ALowRankOfRankZeroIsRefused) {
  const std::string message = changed([&](Tensors& tensors, SafetensorsMetadata& metadata) {
    for (auto& [name, tensor] : tensors) {
      if (name.ends_with(".down")) tensor = tensor.narrow(0, 0, 0);
      if (name.ends_with(".up")) tensor = tensor.narrow(1, 0, 0);
    }
    metadata["rank"] = metadata["alpha"] = "0";
  });
  expect_refused(message, "required no low rank, since the file's rank is 0");
}

TEST_F(CompensationFile, OtherFormatsAndVersionsAreRefused) {
  expect_refused(with_metadata("format", "pt"), "required format rtlynx compensation, got pt");
  expect_refused(with_metadata("format_version", "5"),
                 "required format version 4 or older, got 5; a newer rtlynx reads it");
  expect_refused(with_metadata("format_version", "2"), "\"kind\"");
  expect_refused(with_metadata("format_version", "new"), "metadata format_version");
  expect_refused(with_metadata("pattern", "4:8"), "required pattern 2:4, got 4:8");
  expect_refused(with_metadata("colour", "red"), "only keys of format version 1, got \"colour\"");
  for (const char* key : {"format", "format_version", "base_revision", "rank", "targets"}) {
    expect_refused(changed([&](Tensors&, SafetensorsMetadata& metadata) { metadata.erase(key); }),
                   std::string("the key ") + key);
  }
}

// A mixed choice over the same model: one layer of every kind.
class MixedFile : public CompensationFile {
 protected:
  MixedFile() : mixed_(sample(model_)) {
    for (auto& [name, layer] : mixed_.layers) layer.method = "joint";
    add(kPruned, {.weight = bf16({kDim, kDim}) * torch::tensor({1, 0, 0, 1}).repeat({kDim / 4}),
                  .down = bf16({kRank, kDim}),
                  .up = bf16({kDim, kRank}),
                  .sparse = true});
    add(kNarrow, {.down = bf16({7, kDim}), .up = bf16({kDim, 7})});
    add(kHalf, {.axes = bf16({2, 16, 8}), .weight = bf16({4 * kDim, kDim / 2})});
    write_compensation(path_, mixed_);
  }

  void add(const char* layer, const Replacement& replacement) {
    mixed_.layers[layer] = {
        .input = layer, .values = {}, .replacement = replacement, .method = "rival"};
  }

  static constexpr const char* kPruned = "transformer_blocks.0.attn.add_q_proj";
  static constexpr const char* kNarrow = "transformer_blocks.0.attn.add_k_proj";
  static constexpr const char* kHalf = "transformer_blocks.0.ff_context.net.0.proj";
  ModelCompensation mixed_;
};

TEST_F(MixedFile, ComesBackAsItWas) {
  EXPECT_EQ(SafetensorsFile::open(path_).metadata().at("format_version"), "2");
  const ModelCompensation read = read_compensation(path_);
  ASSERT_EQ(read.layers.size(), mixed_.layers.size());
  for (const auto& [name, layer] : mixed_.layers) {
    const LayerCompensation& other = read.layers.at(name);
    EXPECT_EQ(other.method, layer.method);
    EXPECT_EQ(other.input, layer.input);
    EXPECT_EQ(kind_of(other), kind_of(layer));
    ASSERT_EQ(other.replacement.has_value(), layer.replacement.has_value()) << name;
    if (!layer.replacement) continue;
    EXPECT_TRUE(other.replacement->effective().equal(layer.replacement->effective())) << name;
    EXPECT_EQ(other.replacement->sparse, layer.replacement->sparse);
  }
  EXPECT_EQ(kind_of(read.layers.at(kQuery)), "activation 2:4");
  EXPECT_EQ(kind_of(read.layers.at(kPruned)), "weight 2:4");
  EXPECT_EQ(kind_of(read.layers.at(kNarrow)), "fixed choice");
}

TEST_F(MixedFile, IsAppliedLayerByLayer) {
  apply_compensation(*model_, read_compensation(path_), "c");
  for (const auto& [name, linear] : named_linears(*model_)) {
    const auto layer = mixed_.layers.find(name);
    const LinearMode wanted = layer == mixed_.layers.end() ? LinearMode::dense
                              : layer->second.replacement  ? LinearMode::replaced
                                                           : LinearMode::compensated;
    EXPECT_EQ(linear->mode(), wanted) << name;
    if (wanted != LinearMode::replaced) continue;
    const torch::NoGradGuard no_grad;
    const torch::Tensor x = torch::randn({3, linear->in_features()});
    const torch::Tensor dense =
        torch::linear(x, layer->second.replacement->effective().to(torch::kFloat32), linear->bias);
    SparseLinear of = linear;
    EXPECT_TRUE(of(x).allclose(dense, 1e-4, 1e-3)) << name;
  }
}

TEST_F(MixedFile, WithoutReplacementsIsOfTheFirstVersion) {
  write_compensation(path_, sample(model_));
  const SafetensorsMetadata metadata = SafetensorsFile::open(path_).metadata();
  EXPECT_EQ(metadata.at("format_version"), "1");
  EXPECT_EQ(metadata.at("targets").find("kind"), std::string::npos);
}

TEST_F(MixedFile, AlphaConcernsLowRanksOfTheFilesRank) {
  ASSERT_EQ(with_metadata("alpha", "2"), "accepted");
  const ModelCompensation read = read_compensation(folder_ / "changed");
  const auto up = [](const ModelCompensation& of, const char* name) {
    return of.layers.at(name).replacement->up;
  };
  EXPECT_TRUE(up(read, kPruned).equal(0.5 * up(mixed_, kPruned)));
  EXPECT_TRUE(up(read, kNarrow).equal(up(mixed_, kNarrow)));
}

TEST_F(MixedFile, WhatDoesNotFitIsRefused) {
  const std::string targets = SafetensorsFile::open(path_).metadata().at("targets");
  const auto with_targets = [&](const std::string& from, const std::string& to) {
    std::string changed_targets = targets;
    changed_targets.replace(changed_targets.find(from), from.size(), to);
    return with_metadata("targets", changed_targets);
  };
  expect_refused(with_targets("weight 2:4", "weight 4:8"), "got weight 4:8");
  expect_refused(with_targets("\"kind\":", "\"kin\":"), "kind");
  expect_refused(with_metadata("format_version", "1"), "norm");
  // A pruned layer's low rank is of the file's rank, and its weight has the pattern.
  expect_refused(with_targets("fixed choice", "weight 2:4"), "the file's rank");
  mixed_.layers.at(kPruned).replacement->weight = bf16({kDim, kDim});
  expect_refused(refusal([&] { apply_compensation(*model_, mixed_, "c"); }),
                 std::string("layer ") + kPruned +
                     ": Replacement: required a weight [N, K] with at "
                     "most 2 of every 4");
  EXPECT_EQ(named_linears(*model_).front().linear->mode(), LinearMode::dense);
}

TEST_F(CompensationFile, TensorsThatDoNotBelongAreRefused) {
  const std::string up = std::string("rtlynx.") + kQuery + ".up";
  const auto with_tensor = [&](const std::string& name, const torch::Tensor& tensor) {
    return changed([&](Tensors& tensors, SafetensorsMetadata&) { tensors[name] = tensor; });
  };
  expect_refused(with_tensor("transformer.x.weight", bf16({2})), "a tensor of a target");
  expect_refused(with_tensor(up, torch::zeros({kDim, kRank})), "required BF16, got F32");
  expect_refused(with_tensor(up, bf16({kDim, kRank + 1})), "the file's rank");
  expect_refused(with_tensor(up, torch::full({kDim, kRank}, NAN, torch::kBFloat16)), "finite");
  expect_refused(changed([&](Tensors& tensors, SafetensorsMetadata&) { tensors.erase(up); }),
                 "down and up, or neither");
  expect_refused(with_metadata("rank", "8"), "down [8, K]");
  expect_refused(with_metadata("rank", "-1"), "rank");
  expect_refused(with_metadata("targets", "[]"), "targets");
  expect_refused(with_metadata("targets", "{\"a\": 1}"), "target \"a\"");
}

TEST_F(CompensationFile, EveryTruncationIsRefused) {
  const std::string bytes = read_file(path_, 1 << 24);
  for (std::size_t size = 0; size < bytes.size(); size += 997) {
    std::ofstream(folder_ / "short", std::ios::binary) << bytes.substr(0, size);
    EXPECT_NE(refusal([&] { read_compensation(folder_ / "short"); }), "accepted") << size;
  }
}

TEST_F(CompensationFile, AnotherModelIsRefusedBeforeAnythingChanges) {
  FluxTransformer other = small_flux(72);
  const ModelCompensation read = read_compensation(path_);
  expect_refused(refusal([&] { apply_compensation(*other, read, "c.safetensors"); }),
                 "c.safetensors: required the weights that it was made for, revision " +
                     read.base_revision + " of small, got revision ");
  ModelCompensation lost = read;
  lost.layers.emplace("transformer_blocks.9.attn.to_q", read.layers.at(kQuery));
  expect_refused(refusal([&] { apply_compensation(*model_, lost, "c"); }),
                 "got \"transformer_blocks.9.attn.to_q\"");
  ModelCompensation narrow = read;
  narrow.layers.at(kQuery).values.down = bf16({kRank, kDim / 2});
  expect_refused(refusal([&] { apply_compensation(*model_, narrow, "c"); }),
                 std::string("layer ") + kQuery + ": Compensation24: required down [r, 32]");
  for (const auto& [name, linear] : named_linears(*model_)) {
    EXPECT_EQ(linear->compensation(), nullptr) << name;
  }
}

}  // namespace
}  // namespace rtlynx
