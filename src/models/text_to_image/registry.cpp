// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/registry.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/json.h"
#include "io/text.h"
#include "models/text_to_image/flux.h"
#include "models/text_to_image/qwen_image.h"
#include "models/text_to_image/z_image.h"

namespace rtlynx {
namespace {

struct Family {
  std::string_view pipeline_class;
  std::unique_ptr<TextToImageModel> (*open)(const std::filesystem::path& folder,
                                            const std::filesystem::path& transformer_file);
};

constexpr std::array<Family, 3> kFamilies = {{
    {"FluxPipeline", open_flux_model},
    {"QwenImagePipeline", open_qwen_image_model},
    {"ZImagePipeline", open_z_image_model},
}};

}  // namespace

bool is_text_to_image_pipeline(std::string_view pipeline_class) {
  return std::ranges::any_of(
      kFamilies, [&](const Family& family) { return family.pipeline_class == pipeline_class; });
}

std::unique_ptr<TextToImageModel> open_text_to_image_model(
    const std::filesystem::path& folder, const std::filesystem::path& transformer_file) {
  const std::filesystem::path path = folder / "model_index.json";
  const std::string where = printable(path.string());
  const std::string name = json_string(read_json_file(path), "_class_name", where);
  std::string known;
  for (const Family& family : kFamilies) {
    if (name == family.pipeline_class) return family.open(folder, transformer_file);
    known += (known.empty() ? "" : ", ") + std::string(family.pipeline_class);
  }
  fail(where, "_class_name to be LynxMiniPipeline or one of: " + known,
       printable(name) + "; in diffusers rtlynx.sparsify takes it");
}

}  // namespace rtlynx
