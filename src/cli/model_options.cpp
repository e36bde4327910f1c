// SPDX-License-Identifier: Apache-2.0
#include "cli/model_options.h"

#include <cstdlib>
#include <system_error>

#include "base/error.h"
#include "options/number.h"

namespace rtlynx::cli {
namespace {

// <prefix>/bin/rtlynx finds <prefix>/share/rtlynx/models.
std::filesystem::path installed_models() {
  std::error_code unreadable;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", unreadable);
  return self.parent_path().parent_path() / "share" / "rtlynx" / "models";
}

}  // namespace

torch::Device choose_device(const std::string& name) {
  if (name == "cpu") return torch::kCPU;
  const bool usable = RTLYNX_GPU_KERNELS != 0 && torch::cuda::is_available();
  if (name == "cuda" && !usable) {
    fail("--device cuda", "a GPU that torch sees and a build with GPU kernels",
         RTLYNX_GPU_KERNELS == 0 ? "a build without them" : "no GPU");
  }
  return usable ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU);
}

void ModelOptions::add_to(CLI::App& command) {
  command.add_option("--model", model,
                     "Model folder in diffusers' layout [default: $RTLYNX_MODEL, else lynx-mini]");
  command.add_option("--device", device, "Where to compute")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--dtype", dtype, "Arithmetic [auto: fp32 on the CPU, bf16 on a GPU]")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}))
      ->capture_default_str();
  command.add_option("--threads", threads, "CPU threads [0: all cores]")
      ->transform(options::whole_number(0, 1024));
}

std::filesystem::path ModelOptions::model_folder() const {
  if (!model.empty()) return model;
  // Empty is not set, as in the shell's ${RTLYNX_MODEL:-...}.
  const char* const variable = std::getenv("RTLYNX_MODEL");
  if (variable != nullptr && *variable != '\0') return variable;
  for (const auto& models : {installed_models(), std::filesystem::path(RTLYNX_MODELS_SOURCE_DIR)}) {
    if (std::filesystem::exists(models / "lynx-mini" / "model_index.json")) {
      return models / "lynx-mini";
    }
  }
  fail("model",
       "--model, the variable RTLYNX_MODEL, or lynx-mini at " + installed_models().string(),
       "none of them");
}

torch::TensorOptions ModelOptions::tensor_options() const {
  const torch::Device place = choose_device(device);
  const bool half = dtype == "bf16" || (dtype == "auto" && place.is_cuda());
  return torch::TensorOptions().device(place).dtype(half ? torch::kBFloat16 : torch::kFloat32);
}

void ModelOptions::set_threads() const {
  if (threads > 0) torch::set_num_threads(threads);
}

Pipeline ModelOptions::load() const {
  set_threads();
  return load_pipeline(model_folder(), tensor_options());
}

}  // namespace rtlynx::cli
