// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>

#include "base/libtorch.h"
#include "io/json.h"
#include "io/text.h"
#include "models/blockwise/blockwise.h"
#include "models/load_progress.h"

// Each family's transformer block by block.
namespace rtlynx {

using OpenBlockwise = std::unique_ptr<BlockwiseTransformer>(const std::filesystem::path& folder,
                                                            const torch::TensorOptions& options,
                                                            const LoadProgress& on_progress);

OpenBlockwise open_flux_blocks, open_qwen_image_blocks, open_z_image_blocks;

inline constexpr const char* kTokens = "tokens";  // [T, d], what the text encoder gave
inline constexpr const char* kPooled = "pooled";  // [d]

/// The transformer, or on the meta device one without values.
template <typename Transformer, typename ConfigFromJson, typename Load>
Transformer load_or_plan(const std::filesystem::path& folder, const torch::TensorOptions& options,
                         const LoadProgress& on_progress, ConfigFromJson config_from_json,
                         Load load) {
  if (!options.device().is_meta()) return load(folder, options, on_progress);
  const std::filesystem::path path = folder / "config.json";
  return Transformer(config_from_json(read_json_file(path), printable(path.string())), options);
}

/// Where the weights are, in their type.
inline torch::TensorOptions like_weights(const torch::nn::Module& module) {
  return module.parameters().front().options().requires_grad(false);
}

/// The rotations of a picture's tokens, made once for each length of text and size of picture.
class RotationTables {
 public:
  template <typename Make>
  const torch::Tensor& of(const BlockState& state, Make make) {
    torch::Tensor& table = tables_[{state.text_tokens, state.height, state.width}];
    if (!table.defined()) table = make().to(state.image.device());
    return table;
  }

 private:
  std::map<std::array<std::int64_t, 3>, torch::Tensor> tables_;
};

/// A prompt's feature with a dimension for the batch.
inline torch::Tensor feature(const DenoiserInput& input, const char* name,
                             const torch::TensorOptions& options) {
  return input.features.front().at(name).to(options).unsqueeze(0);
}

}  // namespace rtlynx
