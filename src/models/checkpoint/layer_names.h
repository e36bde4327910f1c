// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/libtorch.h"

namespace rtlynx {

/// A module as another program names it. Its rows are those of one or several of ours, one below
/// the other.
struct ForeignModule {
  std::string name;
  std::vector<std::string> parts;
  bool halves_swapped = false;    ///< the lower half of the rows comes first there
  std::string weight = "weight";  ///< the name of its weight there
};

/// FLUX.1's original names (BFL, ComfyUI), and those of XLabs' LoRAs.
std::vector<ForeignModule> flux_foreign_modules(std::int64_t double_blocks,
                                                std::int64_t single_blocks);

/// Z-Image's original names (ComfyUI) for blocks under these names, such as "layers.0".
std::vector<ForeignModule> z_image_foreign_modules(const std::vector<std::string>& blocks);

/// A linear layer of a transformer.
struct LinearShape {
  std::string name;
  std::int64_t out = 0;
  std::int64_t in = 0;
};

/// All that have a two-dimensional `weight`, in the order of the parameters.
std::vector<LinearShape> linear_shapes(const torch::nn::Module& model);

/// Some rows of a foreign module, which are all rows of a layer.
struct LayerRows {
  LinearShape layer;
  std::int64_t first_row = 0;
};

/// What a name in a LoRA's file means.
struct LoraTarget {
  std::vector<LayerRows> parts;
  bool halves_swapped = false;
};

/// The linear layers of a model under all names that LoRAs use for them.
class LayerNames {
 public:
  /// Foreign modules of which a part is not among `layers` are left out.
  LayerNames(const std::vector<LinearShape>& layers, const std::vector<ForeignModule>& foreign);

  /// The layers behind a name: ours or a foreign one; with or without the prefixes of diffusers,
  /// PEFT and ComfyUI; or with "_" for every "." behind kohya's prefixes. Null for any other.
  const LoraTarget* find(std::string_view name) const;

 private:
  std::map<std::string, LoraTarget, std::less<>> dotted_;
  std::map<std::string, LoraTarget, std::less<>> underscored_;
};

}  // namespace rtlynx
