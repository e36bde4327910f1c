// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <filesystem>

#include "io/json.h"
#include "io/text.h"
#include "models/parameters.h"

namespace rtlynx {

/// Reads a diffusers `transformer/` folder: config.json, by `config_from_json(json, where)`, and
/// diffusion_pytorch_model*.safetensors. Throws Error naming file and tensor for whatever does not
/// fit.
template <typename Transformer, typename ConfigFromJson>
Transformer load_transformer(const std::filesystem::path& folder,
                             const torch::TensorOptions& options, ConfigFromJson config_from_json) {
  const std::filesystem::path path = folder / "config.json";
  Transformer model(config_from_json(read_json_file(path), printable(path.string())), options);
  load_parameters(*model, folder, "diffusion_pytorch_model");
  model->eval();
  return model;
}

}  // namespace rtlynx
