// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "layers/input_group.h"
#include "layers/side_stream.h"
#include "models/double_block_groups.h"
#include "models/modules.h"

namespace rtlynx {

/// A residual stream on the fused path and what is known of its norm.
struct FusedStream {
  torch::Tensor h;        // [B, S, d]
  torch::Tensor moments;  // [B, S, 2]
  torch::Tensor normed;   // the next group's input, if one of its layers reads it as it is
};

/// A norm's modulation [B, d], and who reads what it gives; a model's output has no group.
struct NextNorm {
  const InputGroup* group = nullptr;
  torch::Tensor scale, shift;
};

FusedStream begin_stream(const torch::Tensor& h, const NextNorm& next);

/// h + gate * y.
FusedStream advance_stream(const FusedStream& stream, const torch::Tensor& y,
                           const torch::Tensor& gate, const NextNorm& next);

GroupInput input_of(const FusedStream& stream, const NextNorm& next);

/// DoubleBlock, its reference, on the fused path. What a few text tokens take is the time to read
/// weights: on a GPU it runs beside the image's products, on `side_stream`.
class FusedDoubleBlock {
 public:
  FusedDoubleBlock(const Modules& modules, const std::string& block, const DoubleBlockNames& names,
                   std::int64_t head_dim, SideStream side_stream);

  /// Shift, scale and gate of attention, then of the MLP, [B, d] each.
  struct Modulation {
    std::vector<torch::Tensor> text, image;
  };
  /// `activated` [B, d] = silu(temb).
  Modulation modulation(const torch::Tensor& activated) const;

  /// How the norms before its attention read the streams.
  NextNorm text_in(const Modulation& own) const;
  NextNorm image_in(const Modulation& own) const;

  /// What the block's attention sees beside the streams.
  struct Joint {
    torch::Tensor rotation;  // [T + I, head_dim / 2, 2] fp32
    torch::Tensor mask;      // [B, 1, 1, T + I] bool, or undefined
  };
  /// What follows the block.
  struct Next {
    std::optional<NextNorm> text;  // none: nothing reads the text any more, it stays as it is
    NextNorm image;
    std::function<void()> beside;  // runs beside the last product of the image; may be empty
  };
  /// Advances both streams to what is next.
  void forward(FusedStream& text, FusedStream& image, const Modulation& own, const Joint& joint,
               const Next& next) const;

 private:
  struct Side {
    InputGroup qkv, out, up, down;
    torch::Tensor norm_q, norm_k;
    SparseLinear modulation{nullptr};
  };
  torch::Tensor attend(const FusedStream& text, const FusedStream& image, const Modulation& own,
                       const Joint& joint) const;
  /// A stream within its MLP.
  struct Hidden {
    FusedStream stream;
    torch::Tensor values, limit;
  };
  static Hidden enter_mlp(const Side& side, const FusedStream& stream,
                          const torch::Tensor& attended, const std::vector<torch::Tensor>& own);
  static FusedStream leave_mlp(const Side& side, const Hidden& hidden,
                               const std::vector<torch::Tensor>& own, const NextNorm& next);

  Side text_, image_;
  std::int64_t head_dim_;
  SideStream side_stream_;
};

}  // namespace rtlynx
