// SPDX-License-Identifier: Apache-2.0
#include "study/checkpoint.h"

#include <iomanip>
#include <limits>
#include <sstream>

#include "base/error.h"
#include "io/safetensors.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

// Everything that decides which weights come out; the device and the file's own name do not.
SafetensorsMetadata describe(const TrainOptions& options) {
  const auto text = [](auto value) {
    std::ostringstream stream;
    stream << std::setprecision(std::numeric_limits<double>::max_digits10) << value;
    return stream.str();
  };
  return {{"format", "rtlynx training checkpoint 1"},
          {"heads", text(options.shape.heads)},
          {"double_blocks", text(options.shape.double_blocks)},
          {"single_blocks", text(options.shape.single_blocks)},
          {"seed", text(options.seed)},
          {"steps", text(options.steps)},
          {"batch", text(options.batch)},
          {"learning_rate", text(options.learning_rate)},
          {"warm_up", text(options.warm_up)},
          {"decay_share", text(options.decay_share)},
          {"caption_dropout", text(options.caption_dropout)},
          {"time_spread", text(options.time_spread)},
          {"beta1", text(options.adamw.beta1)},
          {"beta2", text(options.adamw.beta2)},
          {"weight_decay", text(options.adamw.weight_decay)},
          {"epsilon", text(options.adamw.epsilon)},
          {"max_gradient_norm", text(options.adamw.max_gradient_norm)},
          {"ema_decay", text(options.adamw.ema_decay)}};
}

}  // namespace

void save_checkpoint(const TrainOptions& options, const AdamW& optimizer) {
  const TensorBytes bytes(optimizer.state());
  write_safetensors(options.checkpoint, bytes.entries(), describe(options));
}

void load_checkpoint(const TrainOptions& options, AdamW& optimizer) {
  if (!std::filesystem::exists(options.checkpoint)) return;
  const std::string where = options.checkpoint.string();
  const SafetensorsFile file = SafetensorsFile::open(options.checkpoint);
  for (const auto& [key, wanted] : describe(options)) {
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
    tensor.copy_(saved);
  }
}

}  // namespace rtlynx
