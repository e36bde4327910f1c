// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <span>

#include "models/checkpoint/lora.h"

namespace rtlynx {

/// A LoRA and how strongly it counts.
struct LoraFile {
  std::filesystem::path path;
  double strength = 1;
};

/// The sum of all LoRAs for the layers of `model`, which `foreign` names as others do. Throws Error
/// naming file and tensor for what matches nothing.
LowRankUpdates read_loras(const torch::nn::Module& model, const std::vector<ForeignModule>& foreign,
                          std::span<const LoraFile> files, const LoraWarning& on_warning = {});

/// Adds `updates` to what the layers compute in their modes. A weight that its layer reads as it is
/// (dense, naive, norm) takes the update in; beside one that was transformed, refitted or pruned
/// (compensated, replaced) it goes into the low rank, which reads all channels. Not to be done
/// twice, nor before another mode is set.
void apply_updates(torch::nn::Module& model, const LowRankUpdates& updates);

}  // namespace rtlynx
