// SPDX-License-Identifier: Apache-2.0
// Makes a transformer's folder of a given size, and times how it is loaded, with the peak of host
// memory beside it.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/safetensors.h"
#include "models/blockwise/blockwise.h"

namespace {

namespace fs = std::filesystem;

struct Options {
  std::string folder;
  std::string family = "z-image";
  std::string stored = "fp32";
  double gibibytes = 24;
  std::string device = "cuda";
  std::string dtype = "bf16";
  bool cold = false;
  int runs = 1;
};

/// config.json of a full-size transformer with so many of the blocks that make up its size.
std::string config_of(const std::string& family, std::int64_t blocks) {
  if (family == "z-image") {
    return fmt::format(R"({{"_class_name": "ZImageTransformer2DModel", "n_layers": {}}})", blocks);
  }
  if (family == "qwen-image") {
    return fmt::format(
        R"({{"_class_name": "QwenImageTransformer2DModel", "guidance_embeds": false, )"
        R"("num_layers": {}}})",
        blocks);
  }
  return fmt::format(R"({{"_class_name": "FluxTransformer2DModel", "guidance_embeds": true, )"
                     R"("num_layers": 19, "num_single_layers": {}}})",
                     blocks);
}

std::unique_ptr<rtlynx::BlockwiseTransformer> planned(const Options& options, std::int64_t blocks) {
  std::ofstream(fs::path(options.folder) / "config.json") << config_of(options.family, blocks);
  return rtlynx::open_blockwise(options.folder, torch::TensorOptions(torch::kMeta));
}

std::int64_t parameters_of(rtlynx::BlockwiseTransformer& model) {
  std::int64_t count = 0;
  for (const torch::Tensor& parameter : model.module().parameters()) count += parameter.numel();
  return count;
}

/// Weights of about the size asked for. Every tensor has the first values of the same random ones.
void make_folder(const Options& options) {
  fs::create_directories(options.folder);
  const bool is_half = options.stored == "bf16";
  const std::int64_t bytes_each = is_half ? 2 : 4;
  const auto one = parameters_of(*planned(options, 1)), two = parameters_of(*planned(options, 2));
  const double wanted = options.gibibytes * (1 << 30) / static_cast<double>(bytes_each);
  const auto blocks =
      std::max<std::int64_t>(1, 1 + static_cast<std::int64_t>((wanted - static_cast<double>(one)) /
                                                              static_cast<double>(two - one)));
  const auto model = planned(options, blocks);

  std::int64_t largest = 0;
  for (const torch::Tensor& parameter : model->module().parameters()) {
    largest = std::max(largest, parameter.numel());
  }
  const torch::Tensor values =
      (torch::randn({largest}) * 0.02).to(is_half ? torch::kBFloat16 : torch::kFloat32);
  const auto* const begin = static_cast<const std::byte*>(values.const_data_ptr());
  std::vector<rtlynx::NamedTensor> tensors;
  for (const auto& item : model->module().named_parameters()) {
    const auto bytes = static_cast<std::size_t>(item.value().numel() * bytes_each);
    tensors.push_back({.name = item.key(),
                       .dtype = is_half ? rtlynx::TensorDtype::kBF16 : rtlynx::TensorDtype::kF32,
                       .shape = item.value().sizes().vec(),
                       .bytes = {begin, bytes}});
  }
  rtlynx::write_safetensors_sharded(options.folder, "diffusion_pytorch_model", tensors,
                                    std::uint64_t{10'000'000'000});
}

/// Drops the files' pages from the cache, as far as the system lets go of them.
void forget_pages(const fs::path& folder) {
  ::sync();
  for (const auto& file : fs::directory_iterator(folder)) {
    const int descriptor = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) continue;
    ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    ::close(descriptor);
  }
}

/// "VmRSS", "VmHWM" or another of this process's sizes, in GiB.
double gibibytes_of(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / (1 << 20);
  }
  return 0;
}

void load(const Options& options) {
  const torch::Device device(options.device);
  // A GPU's context takes host memory of its own, whatever is loaded.
  const torch::Tensor context = torch::zeros({1}, torch::TensorOptions(device));
  if (options.cold) forget_pages(options.folder);
  std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM starts anew
  const double before = gibibytes_of("VmRSS");
  double stored = 0;
  const auto start = std::chrono::steady_clock::now();
  const auto model = rtlynx::open_blockwise(
      options.folder,
      torch::TensorOptions(device).dtype(options.dtype == "bf16" ? torch::kBFloat16
                                                                 : torch::kFloat32),
      [&](std::uint64_t, std::uint64_t all) { stored = static_cast<double>(all); });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  double on_device = 0;
  for (const torch::Tensor& parameter : model->module().parameters()) {
    on_device += static_cast<double>(parameter.nbytes());
  }
  fmt::print(
      R"({{"family": "{}", "device": "{}", "dtype": "{}", "cold": {}, "stored_gib": {:.2f}, )"
      R"("parameters_gib": {:.2f}, "seconds": {:.2f}, "gb_per_second": {:.2f}, )"
      R"("host_gib_before": {:.2f}, "host_gib_peak": {:.2f}}})"
      "\n",
      options.family, options.device, options.dtype, options.cold, stored / (1 << 30),
      on_device / (1 << 30), seconds.count(), stored * 1e-9 / seconds.count(), before,
      gibibytes_of("VmHWM"));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Makes a transformer's folder of a given size and times how it is loaded",
               "load_model"};
  app.add_option("folder", options.folder, "made if it holds no weights")->required();
  app.add_option("--family", options.family)
      ->check(CLI::IsMember({"flux", "qwen-image", "z-image"}));
  app.add_option("--stored", options.stored, "type in the files")
      ->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--size", options.gibibytes, "GiB of the files")->check(CLI::PositiveNumber);
  app.add_option("--device", options.device)->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--dtype", options.dtype)->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_flag("--cold", options.cold, "drop the files from the page cache before each run");
  app.add_option("--runs", options.runs)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    const fs::path weights = fs::path(options.folder) / "diffusion_pytorch_model.safetensors";
    if (!fs::exists(weights) && !fs::exists(weights.string() + ".index.json")) {
      make_folder(options);
    }
    for (int run = 0; run < options.runs; ++run) load(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "load_model: {}\n", error.what());
    return 1;
  }
  return 0;
}
