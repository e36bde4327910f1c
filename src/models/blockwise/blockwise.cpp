// SPDX-License-Identifier: Apache-2.0
#include "models/blockwise/blockwise.h"

#include <array>
#include <string_view>

#include "base/error.h"
#include "io/json.h"
#include "io/text.h"
#include "models/blockwise/families.h"

namespace rtlynx {
namespace {

struct Family {
  std::string_view transformer_class;
  OpenBlockwise* open;
};

constexpr std::array<Family, 3> kFamilies = {{
    {"FluxTransformer2DModel", open_flux_blocks},
    {"QwenImageTransformer2DModel", open_qwen_image_blocks},
    {"ZImageTransformer2DModel", open_z_image_blocks},
}};

}  // namespace

BlockState BlockState::to(torch::Device device) const {
  BlockState moved = *this;
  for (torch::Tensor* const tensor : {&moved.image, &moved.text, &moved.temb}) {
    if (tensor->defined()) *tensor = tensor->to(device);
  }
  return moved;
}

std::int64_t BlockState::bytes() const {
  std::int64_t sum = 0;
  for (const torch::Tensor* const tensor : {&image, &text, &temb}) {
    if (tensor->defined()) sum += static_cast<std::int64_t>(tensor->nbytes());
  }
  return sum;
}

torch::Tensor BlockwiseTransformer::velocity(const DenoiserInput& input) {
  BlockState state = begin(input);
  const std::size_t count = blocks().size();
  for (std::size_t block = 0; block < count; ++block) run_block(block, state);
  return finish(state);
}

std::unique_ptr<BlockwiseTransformer> open_blockwise(const std::filesystem::path& transformer,
                                                     const torch::TensorOptions& options,
                                                     const LoadProgress& on_progress) {
  const std::filesystem::path path = transformer / "config.json";
  const std::string where = printable(path.string());
  const std::string name = json_string(read_json_file(path), "_class_name", where);
  for (const Family& family : kFamilies) {
    if (name == family.transformer_class) return family.open(transformer, options, on_progress);
  }
  fail(where, "_class_name to be one of: " + blockwise_classes(), printable(name));
}

std::string blockwise_classes() {
  std::string names;
  for (const Family& family : kFamilies) {
    names += (names.empty() ? "" : ", ") + std::string(family.transformer_class);
  }
  return names;
}

}  // namespace rtlynx
