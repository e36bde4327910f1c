// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace rtlynx::test {

inline std::filesystem::path goldens() {
  return std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens";
}

/// Puts a small FLUX.1 together in `folder`, as tools/make_pipeline_goldens.py does; `name` is the
/// golden with its transformer.
inline void make_small_flux(const std::filesystem::path& folder, const std::string& name) {
  constexpr auto kAll = std::filesystem::copy_options::recursive;
  std::filesystem::copy(goldens() / name, folder, kAll);
  for (const char* part : {"tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"}) {
    std::filesystem::copy(goldens() / "text_flux" / part, folder / part, kAll);
  }
  std::filesystem::copy(goldens() / "vae_kl", folder / "vae", kAll);
  // The inputs and outputs of the goldens are no part of a model.
  std::filesystem::remove(folder / "io.safetensors");
  std::filesystem::remove(folder / "vae" / "io.safetensors");
}

}  // namespace rtlynx::test
