// SPDX-License-Identifier: Apache-2.0
// Times one decode by an autoencoder of full size with random weights, and its peak memory: a line
// of JSON for each run. memory_limit_mib: 0 is none.
#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "models/vae/autoencoder_kl.h"
#include "models/vae/autoencoder_kl_qwen_image.h"

namespace {

struct Options {
  std::string family = "kl";
  std::string device = "cpu";
  std::string dtype = "fp32";
  int height = 1024, width = 1024;
  int runs = 1;
  bool channels_last = false;
  std::optional<std::int64_t> memory_limit_mb;
};

std::shared_ptr<rtlynx::Vae> make(const Options& options) {
  const auto type = torch::TensorOptions()
                        .device(torch::Device(options.device))
                        .dtype(options.dtype == "bf16" ? torch::kBFloat16 : torch::kFloat32);
  std::shared_ptr<rtlynx::Vae> vae;
  if (options.family == "kl") {
    vae = rtlynx::make_autoencoder_kl({}, type);
  } else {
    rtlynx::AutoencoderKlQwenImageConfig config;
    config.latents_mean.assign(16, 0);
    config.latents_std.assign(16, 1);
    vae = rtlynx::make_autoencoder_kl_qwen_image(config, type);
  }
  const torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  for (torch::Tensor& parameter : vae->parameters()) parameter.normal_(0, 0.02);
  return vae;
}

/// What this process may look at of itself, in bytes: "VmRSS" now, "VmHWM" at most.
std::int64_t resident_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

/// Peak memory since it was made: of a GPU as torch allocates it, else of the process.
class PeakMemory {
 public:
  explicit PeakMemory(const torch::Device& device) : device_(device) {
    if (device_.is_cpu()) {
      std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM starts anew
      before_ = resident_bytes("VmRSS");
    } else {
      allocator()->resetPeakStats(0);
      before_ = stats().current;
    }
  }
  double gibibytes() const {
    const std::int64_t peak = device_.is_cpu() ? resident_bytes("VmHWM") : stats().peak;
    return static_cast<double>(peak - before_) / (1 << 30);
  }

 private:
  c10::DeviceAllocator* allocator() const { return c10::getDeviceAllocator(device_.type()); }
  c10::CachingAllocator::Stat stats() const {
    return allocator()->getDeviceStats(0).allocated_bytes[0];
  }

  torch::Device device_;
  std::int64_t before_ = 0;
};

void run(const Options& options) {
  const auto vae = make(options);
  vae->set_channels_last(options.channels_last);
  if (options.memory_limit_mb) vae->set_memory_limit(*options.memory_limit_mb << 20);
  const torch::Device device(options.device);
  const torch::Tensor latents =
      torch::randn({1, vae->latent_channels(), options.height / vae->factor(),
                    options.width / vae->factor()})
          .to(device);
  for (int i = 0; i < options.runs; ++i) {
    const PeakMemory peak(device);
    const auto start = std::chrono::steady_clock::now();
    // Checked for finite values inside, which waits for a GPU.
    const torch::Tensor pixels = vae->decode(latents);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    fmt::print(
        R"({{"family": "{}", "width": {}, "height": {}, "device": "{}", "dtype": "{}", )"
        R"("layout": "{}", "memory_limit_mib": {}, "seconds": {:.4f}, "gib_beyond_weights": {:.2f}}})"
        "\n",
        options.family, options.width, options.height, options.device, options.dtype,
        options.channels_last ? "channels-last" : "NCHW", options.memory_limit_mb.value_or(0),
        seconds.count(), peak.gibibytes());
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Times one decode by an autoencoder of full size with random weights", "vae_decode"};
  app.add_option("--family", options.family)->check(CLI::IsMember({"kl", "qwen_image"}));
  app.add_option("--device", options.device)->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--dtype", options.dtype)->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--height", options.height, "pixels")->check(CLI::PositiveNumber);
  app.add_option("--width", options.width, "pixels")->check(CLI::PositiveNumber);
  app.add_option("--runs", options.runs, "the first one warms up")->check(CLI::PositiveNumber);
  app.add_flag("--channels-last", options.channels_last);
  app.add_option("--memory-limit", options.memory_limit_mb, "MiB; larger pictures go in tiles");
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "vae_decode: {}\n", error.what());
    return 1;
  }
  return 0;
}
