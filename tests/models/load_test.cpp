// SPDX-License-Identifier: Apache-2.0
// Loading from files that are large, sharded, linked, cut or too large.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "layers/sparse_linear.h"
#include "models/flux/transformer.h"
#include "models/parameters.h"
#include "models/tensor_bytes.h"
#include "models/tensor_stream.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStem = "diffusion_pytorch_model";
constexpr std::uint64_t kMebi = 1 << 20;

const fs::path kFlux = fs::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / "flux_1x1";

/// Bytes of this process in memory, mapped files among them.
std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

struct Zeros {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes;
};

/// A file of zeros that take no space on the disk.
void write_zeros(const fs::path& path, const std::vector<Zeros>& tensors) {
  nlohmann::json header;
  std::uint64_t end = 0;
  for (const Zeros& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {end, end + tensor.bytes}}};
    end += tensor.bytes;
  }
  const std::string text = header.dump();
  const std::uint64_t size = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), sizeof(size));
  file << text;
  file.close();
  fs::resize_file(path, sizeof(size) + text.size() + end);
}

class Loading : public testing::Test {
 protected:
  /// The small model of the goldens in `folder`, in many shards.
  static void save_flux(const fs::path& folder) {
    fs::create_directories(folder);
    fs::copy(kFlux / "config.json", folder / "config.json");
    save_parameters(*load_flux(kFlux, torch::kFloat32), folder, kStem, torch::kFloat32,
                    /*max_shard_bytes=*/64 << 10);
  }

  static std::string refusal_of_flux(const fs::path& folder) {
    return refusal([&] { load_flux(folder, torch::kFloat32); });
  }

  static void expect_flux(const fs::path& folder) {
    const FluxTransformer own = load_flux(kFlux, torch::kFloat32);
    const FluxTransformer read = load_flux(folder, torch::kFloat32);
    const auto values = read->named_parameters();
    for (const auto& item : own->named_parameters()) {
      EXPECT_TRUE(values[item.key()].equal(item.value())) << item.key();
    }
  }

  test::TempDir temporary_;
  fs::path folder_ = temporary_.path();
};

TEST_F(Loading, ConvertsTensorsOfSeveralPieces) {
  const std::int64_t columns = 4096;
  const auto rows = static_cast<std::int64_t>(TensorStream::kPieceBytes / 4 / columns) + 77;
  const torch::Tensor weight = torch::randn({rows, columns});
  const TensorBytes bytes({{"weight", weight}, {"bias", torch::randn({rows})}});
  write_safetensors(folder_ / "model.safetensors", bytes.entries());
  for (const auto type : {torch::kBFloat16, torch::kFloat32, torch::kFloat64}) {
    SparseLinear linear(columns, rows, torch::TensorOptions(type));
    std::uint64_t last = 0, calls = 0;
    load_parameters(*linear, folder_, "model", {}, [&](std::uint64_t finished, std::uint64_t all) {
      EXPECT_GT(finished, last);
      EXPECT_EQ(all, static_cast<std::uint64_t>(4 * rows * (columns + 1)));
      last = finished;
      ++calls;
    });
    EXPECT_EQ(last, static_cast<std::uint64_t>(4 * rows * (columns + 1)));
    EXPECT_EQ(calls, 3U);  // two pieces of the weight, and the bias
    EXPECT_TRUE(linear->weight.equal(weight.to(type)));
  }
}

TEST_F(Loading, WhatIsNotFiniteIsFoundInAnyPiece) {
  const auto rows = static_cast<std::int64_t>(TensorStream::kPieceBytes / 4 / 1024) + 8;
  torch::Tensor weight = torch::zeros({rows, 1024});
  weight[rows - 1][1023] = std::numeric_limits<float>::infinity();
  const TensorBytes bytes({{"weight", weight}, {"bias", torch::zeros({rows})}});
  write_safetensors(folder_ / "model.safetensors", bytes.entries());
  SparseLinear linear(1024, rows, torch::TensorOptions(torch::kBFloat16));
  const std::string message = refusal([&] { load_parameters(*linear, folder_, "model"); });
  EXPECT_NE(message.find("model.safetensors, tensor weight: required finite values, got infinity "
                         "at [" +
                         std::to_string(rows - 1) + ", 1023]"),
            std::string::npos)
      << message;
}

TEST_F(Loading, TakesTheMemoryOfTheParametersAndOfTwoPieces) {
  // 320 MiB of fp32 in two shards, as bf16: read through a mapping, or copied whole, they would
  // take as much again.
  constexpr std::int64_t kSide = 2048;
  constexpr std::uint64_t kLayerBytes = 4 * kSide * kSide;  // 16 MiB
  constexpr int kLayers = 20;
  torch::nn::ModuleList layers;
  nlohmann::json shard_of;
  for (int shard = 0; shard < 2; ++shard) {
    const std::string file = "model-0000" + std::to_string(shard) + ".safetensors";
    std::vector<Zeros> tensors;
    for (int i = shard * kLayers / 2; i < (shard + 1) * kLayers / 2; ++i) {
      const std::string name = std::to_string(i) + ".weight";
      tensors.push_back({name, "F32", {kSide, kSide}, kLayerBytes});
      shard_of[name] = file;
      layers->push_back(SparseLinear(kSide, kSide, torch::TensorOptions(torch::kBFloat16),
                                     /*with_bias=*/false));
    }
    write_zeros(folder_ / file, tensors);
  }
  std::ofstream(folder_ / "model.safetensors.index.json")
      << nlohmann::json({{"weight_map", shard_of}}).dump();
  const std::uint64_t before = resident_bytes();
  std::uint64_t peak = 0;
  load_parameters(*layers, folder_, "model", {},
                  [&](std::uint64_t, std::uint64_t) { peak = std::max(peak, resident_bytes()); });
  const std::uint64_t parameters = kLayers * kLayerBytes / 2;
  EXPECT_GT(peak - before, parameters / 2);  // what is measured does see them
  EXPECT_LT(peak - before, parameters + TensorStream::kBufferBytes + 32 * kMebi);
}

TEST_F(Loading, MemoryThatIsTooSmallIsNamedBeforeAnyIsTaken) {
  constexpr std::int64_t kSide = 1 << 20;
  constexpr std::uint64_t kBytes = std::uint64_t{4} * kSide * kSide;  // 4 TiB
  write_zeros(folder_ / "model.safetensors", {{"weight", "F32", {kSide, kSide}, kBytes}});
  const SparseLinear planned(kSide, kSide,
                             torch::TensorOptions(torch::kMeta).dtype(torch::kFloat32),
                             /*with_bias=*/false);
  const std::string message =
      refusal([&] { check_parameters(*planned, torch::kCPU, folder_, "model"); });
  EXPECT_NE(message.find("load " + folder_.string() + ": required 4096.1 GiB of memory, got "),
            std::string::npos)
      << message;
  EXPECT_NE(message.find("GiB free"), std::string::npos) << message;
}

TEST_F(Loading, MissingAndCutShardsAreNamed) {
  save_flux(folder_);
  expect_flux(folder_);
  const fs::path shard = folder_ / (std::string(kStem) + "-00002-of-00005.safetensors");
  ASSERT_TRUE(fs::exists(shard));
  fs::resize_file(shard, fs::file_size(shard) - 1);
  std::string message = refusal_of_flux(folder_);
  EXPECT_NE(message.find(shard.filename().string() + ", tensor "), std::string::npos) << message;
  EXPECT_NE(message.find("required data_offsets within"), std::string::npos) << message;
  fs::remove(shard);
  message = refusal_of_flux(folder_);
  EXPECT_NE(message.find("required shard \"" + shard.filename().string() + "\", got no such file"),
            std::string::npos)
      << message;
}

TEST_F(Loading, NamesOfOtherSaversAreKnown) {
  const FluxTransformer own = load_flux(kFlux, torch::kFloat32);
  for (const std::string prefix : {"_orig_mod.", "module."}) {
    std::vector<std::pair<std::string, torch::Tensor>> tensors;
    for (const auto& item : own->named_parameters()) {
      tensors.emplace_back(prefix + item.key(), item.value());
    }
    const fs::path saved = folder_ / prefix;
    fs::create_directories(saved);
    fs::copy(kFlux / "config.json", saved / "config.json");
    write_safetensors(saved / (std::string(kStem) + ".safetensors"),
                      TensorBytes(tensors).entries());
    expect_flux(saved);
  }
}

TEST_F(Loading, LinksToBlobsAreFollowed) {
  // As huggingface_hub's cache: files by their hash, and links from a revision's folder.
  const fs::path saved = folder_ / "saved", blobs = folder_ / "blobs",
                 transformer = folder_ / "snapshots" / "0123abcd" / "transformer";
  save_flux(saved);
  fs::create_directories(blobs);
  fs::create_directories(transformer);
  fs::path last;
  int count = 0;
  for (const auto& file : fs::directory_iterator(saved)) {
    const std::string hash = "blob" + std::to_string(count++);
    fs::rename(file.path(), blobs / hash);
    fs::create_symlink(fs::path("../../../blobs") / hash, transformer / file.path().filename());
    if (file.path().extension() == ".safetensors") last = blobs / hash;
  }
  expect_flux(transformer);
  fs::remove(last);  // a download that was broken off
  const std::string message = refusal_of_flux(transformer);
  EXPECT_NE(message.find("got a link to a file that is not there"), std::string::npos) << message;
}

}  // namespace
}  // namespace rtlynx
