// SPDX-License-Identifier: Apache-2.0
#include "mini/checkpoint.h"

#include <string>

#include "base/error.h"
#include "layers/finite.h"
#include "models/tensor_bytes.h"

namespace rtlynx {

void save_checkpoint(const std::filesystem::path& path, const SafetensorsMetadata& description,
                     const AdamW& optimizer) {
  const auto state = optimizer.state();
  for (const auto& [name, tensor] : state) {
    require_finite(tensor, "training, step " + std::to_string(optimizer.finished_steps()) +
                               ", tensor " + name);
  }
  const TensorBytes bytes(state);
  write_safetensors(path, bytes.entries(), description);
}

void load_checkpoint(const std::filesystem::path& path, const SafetensorsMetadata& description,
                     AdamW& optimizer) {
  if (!std::filesystem::exists(path)) return;
  const std::string where = path.string();
  const SafetensorsFile file = SafetensorsFile::open(path);
  for (const auto& [key, wanted] : description) {
    const auto found = file.metadata().find(key);
    const std::string arrived = found == file.metadata().end() ? "none" : found->second;
    require(arrived == wanted, where, "a checkpoint of this run, with " + key + " = " + wanted,
            arrived);
  }
  const torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : optimizer.state()) {
    const torch::Tensor saved = copy_to_tensor(file.entry(name), where + ", tensor " + name);
    require(saved.sizes() == tensor.sizes(), where + ", tensor " + name, "the model's shape",
            "another");
    require_finite(saved, where + ", tensor " + name);
    tensor.copy_(saved);
  }
}

}  // namespace rtlynx
