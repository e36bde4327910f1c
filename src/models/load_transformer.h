// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "base/libtorch.h"
#include "io/json.h"
#include "io/text.h"
#include "models/parameters.h"

namespace rtlynx {

/// Reads a diffusers `transformer/` folder: config.json, by `config_from_json(json, where)`, and
/// diffusion_pytorch_model*.safetensors. Throws Error naming file and tensor for whatever does not
/// fit, memory among it, before any is allocated.
template <typename Transformer, typename ConfigFromJson>
Transformer load_transformer(const std::filesystem::path& folder,
                             const torch::TensorOptions& options, ConfigFromJson config_from_json,
                             const LoadProgress& on_progress) {
  const char* const stem = "diffusion_pytorch_model";
  // As diffusers saves it; through torch.compile; in data-parallel training.
  const StoredTensors stored{.prefixes = {"", "_orig_mod.", "module."}};
  const std::filesystem::path path = folder / "config.json";
  const auto config = config_from_json(read_json_file(path), printable(path.string()));
  check_parameters(*Transformer(config, options.device(torch::kMeta)), options.device(), folder,
                   stem, stored);
  Transformer model(config, options);
  load_parameters(*model, folder, stem, stored, on_progress);
  model->eval();
  return model;
}

}  // namespace rtlynx
