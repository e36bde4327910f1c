// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "models/text/clip_text.h"
#include "models/text/decoder.h"
#include "models/text/t5_encoder.h"
#include "models/tokenizers/prompt_ids.h"

namespace rtlynx {

// What each transformer reads of prompts, from their ids. All wait for the device and throw Error
// naming the stage for values that are not finite.

/// FLUX.1: CLIP's pooled rows [B, d].
torch::Tensor clip_pooled(ClipTextModel& model, std::span<const PromptIds> prompts);

/// FLUX.1: T5's states [B, L, d], padding included.
torch::Tensor t5_tokens(T5Encoder& model, std::span<const PromptIds> prompts);

/// Qwen-Image, Z-Image: the states of each prompt [L_i - dropped, d], dropped being its template's.
std::vector<torch::Tensor> decoder_tokens(DecoderModel& model, std::span<const PromptIds> prompts,
                                          std::int64_t dropped);

}  // namespace rtlynx
