// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace rtlynx::test {

inline std::filesystem::path goldens() {
  return std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens";
}

/// The parts of a golden's model that other goldens hold.
inline std::map<std::string, std::string> shared_parts(const std::string& golden) {
  if (golden == "pipeline_qwen_image") {
    return {{"tokenizer", "text_qwen_image/tokenizer"},
            {"text_encoder", "text_qwen_image/text_encoder"},
            {"vae", "vae_qwen_image"}};
  }
  if (golden == "pipeline_z_image") {
    return {{"tokenizer", "text_z_image/tokenizer"},
            {"text_encoder", "text_z_image/text_encoder"},
            {"transformer", "z_image_ragged"},
            {"vae", "vae_kl"}};
  }
  return {{"tokenizer", "text_flux/tokenizer"},
          {"tokenizer_2", "text_flux/tokenizer_2"},
          {"text_encoder", "text_flux/text_encoder"},
          {"text_encoder_2", "text_flux/text_encoder_2"},
          {"vae", "vae_kl"}};
}

/// Puts the small model of a golden together in `folder`, as tools/make_pipeline_goldens.py does.
inline void make_small_model(const std::filesystem::path& folder, const std::string& golden) {
  constexpr auto kAll = std::filesystem::copy_options::recursive;
  std::filesystem::copy(goldens() / golden, folder, kAll);
  // The inputs and outputs of the goldens are no part of a model.
  std::filesystem::remove(folder / "io.safetensors");
  for (const auto& [part, source] : shared_parts(golden)) {
    std::filesystem::copy(goldens() / source, folder / part, kAll);
    std::filesystem::remove(folder / part / "io.safetensors");
  }
}

}  // namespace rtlynx::test
