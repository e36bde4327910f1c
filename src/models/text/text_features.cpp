// SPDX-License-Identifier: Apache-2.0
#include "models/text/text_features.h"

#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

/// int64 [L] on the CPU.
torch::Tensor row_of(const PromptIds& prompt) { return torch::tensor(prompt.ids, torch::kInt64); }

/// int64 [B, L] of prompts that were padded to one length.
torch::Tensor rows_of(std::span<const PromptIds> prompts) {
  std::vector<torch::Tensor> rows;
  for (const PromptIds& prompt : prompts) {
    require(prompt.ids.size() == prompts.front().ids.size(), "text encoder",
            "prompts padded to one length", "several lengths");
    rows.push_back(row_of(prompt));
  }
  require(!rows.empty(), "text encoder", "at least one prompt", "none");
  return torch::stack(rows);
}

}  // namespace

torch::Tensor clip_pooled(ClipTextModel& model, std::span<const PromptIds> prompts) {
  const torch::NoGradGuard no_grad;
  return model(rows_of(prompts)).pooled;
}

torch::Tensor t5_tokens(T5Encoder& model, std::span<const PromptIds> prompts) {
  const torch::NoGradGuard no_grad;
  return model(rows_of(prompts));
}

std::vector<torch::Tensor> decoder_tokens(DecoderModel& model, std::span<const PromptIds> prompts,
                                          std::int64_t dropped) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> states;
  for (const PromptIds& prompt : prompts) {
    // One at a time, each at its own length: what padding would not change is not computed.
    const torch::Tensor all = model(row_of(prompt).unsqueeze(0)).squeeze(0);  // [L, d]
    require(all.size(0) > dropped, "text encoder",
            "more than the " + std::to_string(dropped) + " tokens that are dropped",
            std::to_string(all.size(0)));
    states.push_back(all.narrow(0, dropped, all.size(0) - dropped));
  }
  return states;
}

}  // namespace rtlynx
