// SPDX-License-Identifier: Apache-2.0
#include "models/qwen_image/fused.h"

#include <string>
#include <utility>

#include "models/modules.h"
#include "models/qwen_image/groups.h"

namespace rtlynx {

QwenImageFused::QwenImageFused(QwenImageTransformer model) : model_(std::move(model)) {
  const torch::NoGradGuard no_grad;
  const Modules modules(*model_);
  const SideStream side_stream(model_->parameters().front().device());
  for (std::int64_t i = 0; i < model_->config().num_layers; ++i) {
    blocks_.emplace_back(modules, "transformer_blocks." + std::to_string(i) + ".", kQwenImageBlock,
                         model_->config().attention_head_dim, side_stream);
  }
}

torch::Tensor QwenImageFused::rotation(const QwenImageInputs& inputs) const {
  const torch::Tensor table =
      model_->rotation(inputs.encoder_hidden_states.size(1), inputs.img_shapes);
  return torch::view_as_real(table).contiguous().to(inputs.hidden_states.device());
}

torch::Tensor QwenImageFused::forward(const QwenImageInputs& inputs,
                                      const torch::Tensor& rotation) {
  const torch::NoGradGuard no_grad;
  const auto [streams, temb, mask] = model_->begin(inputs);
  const torch::Tensor activated = torch::silu(temb);
  std::vector<FusedDoubleBlock::Modulation> mods(blocks_.size());
  const auto modulate = [&](std::size_t i) {
    if (i < blocks_.size()) mods[i] = blocks_[i].modulation(activated);
  };
  // A block's own end needs the next one's, so that its products run beside the block before both.
  modulate(0);
  modulate(1);

  FusedStream text = begin_stream(streams.text, blocks_.front().text_in(mods.front()));
  FusedStream image = begin_stream(streams.image, blocks_.front().image_in(mods.front()));
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    FusedDoubleBlock::Next next{.beside = [&] { modulate(i + 2); }};
    if (i + 1 < blocks_.size()) {
      next.text = blocks_[i + 1].text_in(mods[i + 1]);
      next.image = blocks_[i + 1].image_in(mods[i + 1]);
    }
    blocks_[i].forward(text, image, mods[i], {.rotation = rotation, .mask = mask}, next);
  }
  return model_->finish(image.h, temb);
}

}  // namespace rtlynx
