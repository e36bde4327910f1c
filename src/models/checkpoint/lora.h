// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/libtorch.h"
#include "models/checkpoint/layer_names.h"

namespace rtlynx {

/// What is added to a weight [N, K]: up times down, in fp32.
struct LowRankUpdate {
  torch::Tensor down;  // [r, K]
  torch::Tensor up;    // [N, r], with alpha / r and the strength in it
};

/// By layer.
using LowRankUpdates = std::map<std::string, LowRankUpdate>;

enum class LoraRole { down, up, alpha };

/// A tensor's name in two parts.
struct LoraName {
  std::string_view module;  ///< with whatever prefix it has
  LoraRole role = LoraRole::down;
};

/// Splits names of PEFT (lora_A, lora_B), kohya (lora_down, lora_up, alpha) and XLabs (down, up);
/// nothing for any other.
std::optional<LoraName> parse_lora_name(std::string_view name);

/// Called with a sentence for the user.
using LoraWarning = std::function<void(const std::string& sentence)>;

/// Reads a LoRA and multiplies it by `strength`. What a product counts, alpha / r, is said by a
/// tensor of the module's, else by PEFT's settings (LoraSettings), else it is 1, with a warning
/// where PEFT's own names show that the settings were lost. Throws Error naming the tensor that
/// belongs to no layer (a text encoder's among them), does not fit its layer, lacks its
/// counterpart, or is not finite.
LowRankUpdates read_lora(const std::filesystem::path& path, const LayerNames& names,
                         double strength, const LoraWarning& on_warning = {});

/// Adds `more` to `sum`: where both have a layer their ranks add up.
void add_updates(LowRankUpdates& sum, const LowRankUpdates& more);

/// weight + up down, computed in fp32, of weight's type and device.
torch::Tensor merged_weight(const torch::Tensor& weight, const LowRankUpdate& update);

}  // namespace rtlynx
