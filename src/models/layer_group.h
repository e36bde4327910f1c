// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

/// Which Linears of a model read one input, and what makes that input. Declared once by each family
/// (flux/groups.h); recipes, statistics, transforms, folding, costs and benchmarks read it.
/// Torch-free.
namespace rtlynx {

/// Whose tokens an input has.
enum class TokenStream : std::uint8_t { image, text, joint };

/// Tokens of each stream in one forward pass.
struct StreamTokens {
  std::int64_t image = 0;
  std::int64_t text = 0;

  std::int64_t of(TokenStream stream) const {
    switch (stream) {
      case TokenStream::image:
        return image;
      case TokenStream::text:
        return text;
      default:
        return image + text;
    }
  }
};

/// A Linear of a group, by its name in the checkpoint.
struct GroupLayer {
  std::string name;
  std::int64_t outputs = 0;
  bool in_paper = false;  // one that the RT-Lynx paper sparsifies (arXiv 2605.26632, layer choice)
};

/// Neighbouring channels of an input that are made alike.
struct InputPart {
  enum class Maker : std::uint8_t {
    modulated_norm,  // LayerNorm or weighted RMSNorm, times 1 + scale, plus shift, if it has one
    attention,       // heads of v, mixed over the tokens
    gelu,            // GELU of a Linear's outputs
    swiglu,          // SiLU of one Linear's outputs times another's
    other,           // an embedding, a norm alone: no Linear's rows make it
  };
  Maker maker = Maker::other;
  std::int64_t channels = 0;
  /// The Linears whose rows make the channels. modulated_norm: the modulation; attention: v of each
  /// stream; gelu: up; swiglu: up, then gate.
  std::vector<std::string> made_by;
  static constexpr std::int64_t kNoPart = -1;
  std::int64_t shift_part = 0;  // modulated_norm: which d rows of the modulation are the shift
  std::int64_t scale_part = 0;
  std::int64_t head_dim = 0;  // attention
};

/// Linears that read one input.
struct LayerGroup {
  std::string name;   // of the group: that of its only layer, or one after diffusers' fused names
  std::string block;  // of the model, with a dot behind it: "transformer_blocks.0."; or nothing
  TokenStream stream = TokenStream::image;
  std::int64_t channels = 0;
  std::vector<InputPart> parts;  // one after the other, all channels
  std::vector<GroupLayer> layers;

  std::int64_t outputs() const {
    std::int64_t sum = 0;
    for (const GroupLayer& layer : layers) sum += layer.outputs;
    return sum;
  }
  /// Whether the channels can change places at no cost: rows of Linears make them, one by one.
  bool order_is_free() const {
    return std::all_of(parts.begin(), parts.end(), [](const InputPart& part) {
      return part.maker == InputPart::Maker::gelu || part.maker == InputPart::Maker::swiglu;
    });
  }
  /// Whether the paper sparsifies all of them: a group is sparse or dense as a whole.
  bool in_paper() const {
    return std::all_of(layers.begin(), layers.end(),
                       [](const GroupLayer& layer) { return layer.in_paper; });
  }
};

}  // namespace rtlynx
