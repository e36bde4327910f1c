// SPDX-License-Identifier: Apache-2.0
// One dense step of a transformer's folder on the fused path, from inputs in a safetensors file,
// named as in the family's Inputs, to the velocity in another: what step_numerics.py compares with
// diffusers. Weights take the type of hidden_states.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "models/flux/fused.h"
#include "models/qwen_image/fused.h"
#include "models/tensor_bytes.h"
#include "models/z_image/fused.h"

namespace {

namespace fs = std::filesystem;

/// The inputs, on the device.
class StoredInputs {
 public:
  StoredInputs(const fs::path& path, const std::string& device)
      : file_(rtlynx::SafetensorsFile::open(path)), device_(device) {}

  torch::Tensor get(const std::string& name) const {
    return rtlynx::copy_to_tensor(file_.entry(name), name).to(device_);
  }
  torch::Tensor get_if_there(const std::string& name) const {
    return file_.contains(name) ? get(name) : torch::Tensor();
  }
  torch::TensorOptions weights() const { return get("hidden_states").options(); }

 private:
  rtlynx::SafetensorsFile file_;
  torch::Device device_;
};

torch::Tensor run_flux(const fs::path& folder, const StoredInputs& stored) {
  const rtlynx::FluxInputs inputs{
      .hidden_states = stored.get("hidden_states"),
      .encoder_hidden_states = stored.get("encoder_hidden_states"),
      .pooled_projections = stored.get("pooled_projections"),
      .timestep = stored.get("timestep"),
      .guidance = stored.get_if_there("guidance"),
      .img_ids = stored.get("img_ids"),
      .txt_ids = stored.get("txt_ids"),
  };
  rtlynx::FluxFused fused(rtlynx::load_flux(folder, stored.weights()));
  return fused.forward(inputs, fused.rotation(inputs.txt_ids, inputs.img_ids));
}

torch::Tensor run_qwen_image(const fs::path& folder, const StoredInputs& stored) {
  rtlynx::QwenImageInputs inputs{
      .hidden_states = stored.get("hidden_states"),
      .encoder_hidden_states = stored.get("encoder_hidden_states"),
      .text_tokens = {},
      .timestep = stored.get("timestep"),
      .img_shapes = {},
  };
  const torch::Tensor shapes = stored.get("img_shapes");  // [images, 2]
  for (std::int64_t i = 0; i < shapes.size(0); ++i) {
    inputs.img_shapes.push_back(
        {.rows = shapes[i][0].item<std::int64_t>(), .columns = shapes[i][1].item<std::int64_t>()});
  }
  rtlynx::QwenImageFused fused(rtlynx::load_qwen_image(folder, stored.weights()));
  return fused.forward(inputs, fused.rotation(inputs));
}

torch::Tensor run_z_image(const fs::path& folder, const StoredInputs& stored) {
  const rtlynx::ZImageInputs inputs{
      .hidden_states = stored.get("hidden_states"),
      .encoder_hidden_states = stored.get("encoder_hidden_states"),
      .caption_tokens = {},
      .timestep = stored.get("timestep"),
  };
  rtlynx::ZImageFused fused(rtlynx::load_z_image(folder, stored.weights()));
  return fused.forward(inputs, fused.rotation(inputs));
}

torch::Tensor run(const fs::path& folder, const StoredInputs& stored) {
  const torch::NoGradGuard no_grad;
  const fs::path config = folder / "config.json";
  const std::string name =
      rtlynx::json_string(rtlynx::read_json_file(config), "_class_name", config.string());
  if (name == "FluxTransformer2DModel") return run_flux(folder, stored);
  if (name == "QwenImageTransformer2DModel") return run_qwen_image(folder, stored);
  if (name == "ZImageTransformer2DModel") return run_z_image(folder, stored);
  rtlynx::fail(config.string(), "a transformer of FLUX.1, Qwen-Image or Z-Image", name);
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, inputs, output, device = "cuda";
  CLI::App app{"Runs one dense step of a transformer on the fused path", "transformer_step"};
  app.add_option("folder", folder, "a transformer as diffusers saves it")->required();
  app.add_option("inputs", inputs, "a safetensors file")->required();
  app.add_option("output", output, "the safetensors file to write")->required();
  app.add_option("--device", device)->check(CLI::IsMember({"cpu", "cuda"}));
  CLI11_PARSE(app, argc, argv);
  try {
    const torch::Tensor velocity = run(folder, StoredInputs(inputs, device));
    rtlynx::write_safetensors(output, rtlynx::TensorBytes({{"velocity", velocity}}).entries());
  } catch (const std::exception& error) {
    fmt::print(stderr, "transformer_step: {}\n", error.what());
    return 1;
  }
  return 0;
}
