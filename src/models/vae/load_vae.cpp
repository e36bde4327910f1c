// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "models/parameters.h"
#include "models/vae/autoencoder_kl.h"
#include "models/vae/autoencoder_kl_qwen_image.h"

namespace rtlynx {
namespace {

constexpr const char* kStem = "diffusion_pytorch_model";

struct EmptyVae {
  std::shared_ptr<Vae> vae;
  StoredTensors stored;
  // Measured at 1024^2 on a CPU: as fast for AutoencoderKL, 1.5 times as fast for
  // AutoencoderKLQwenImage, and a fifth less memory. On an H200 in bf16 (docs/performance.md): 1.5
  // times as slow for the one, 1.07 times as fast for the other.
  bool faster_channels_last = false;
};

/// The autoencoder that config.json describes, without values.
EmptyVae make_vae(const std::filesystem::path& folder, const torch::TensorOptions& options) {
  const std::filesystem::path path = folder / "config.json";
  const nlohmann::json json = read_json_file(path);
  const std::string where = printable(path.string());
  if (json_string(json, "_class_name", where) == "AutoencoderKLQwenImage") {
    const auto config = autoencoder_kl_qwen_image_config_from_json(json, where);
    return {make_autoencoder_kl_qwen_image(config, options), qwen_image_vae_tensors(config), true};
  }
  return {make_autoencoder_kl(autoencoder_kl_config_from_json(json, where), options),
          {},
          options.device().is_cpu()};
}

}  // namespace

VaeShape read_vae_shape(const std::filesystem::path& folder) {
  const EmptyVae empty = make_vae(folder, torch::kMeta);
  SafetensorsModel::open(folder, kStem);
  return {.latent_channels = empty.vae->latent_channels(), .factor = empty.vae->factor()};
}

std::shared_ptr<Vae> load_vae(const std::filesystem::path& folder,
                              const torch::TensorOptions& options,
                              const LoadProgress& on_progress) {
  const auto [vae, stored, faster_channels_last] = make_vae(folder, options);
  load_parameters(*vae, folder, kStem, stored, on_progress);
  vae->set_channels_last(faster_channels_last);
  vae->eval();
  return vae;
}

}  // namespace rtlynx
