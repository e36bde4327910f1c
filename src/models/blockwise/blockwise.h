// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "models/layer_group.h"
#include "models/load_progress.h"
#include "models/text_to_image/model.h"

namespace rtlynx {

/// A tensor that a transformer reads of a prompt.
struct FeatureShape {
  std::string name;
  std::int64_t channels = 0;
  bool has_tokens = true;  ///< [T, channels]; else [channels]
};

/// What goes from block to block, of one picture.
struct BlockState {
  torch::Tensor image;                 // [1, I, d]; both streams, once they are joined
  torch::Tensor text;                  // [1, T, d]; undefined once they are
  torch::Tensor temb;                  // [1, d]
  std::int64_t text_tokens = 0;        ///< of the prompt, without padding
  std::int64_t height = 0, width = 0;  ///< of the latents

  /// The same with its tensors elsewhere.
  BlockState to(torch::Device device) const;
  std::int64_t bytes() const;
};

/// A family's transformer, block by block on its plain path, so that what a block reads can be kept
/// while no other block is at work.
class BlockwiseTransformer {
 public:
  virtual ~BlockwiseTransformer() = default;

  /// diffusers' name of it.
  virtual std::string class_name() const = 0;
  virtual torch::nn::Module& module() = 0;
  /// Which of its Linears read one input, in the order of the blocks.
  virtual const std::vector<LayerGroup>& groups() const = 0;
  virtual std::vector<FeatureShape> features() const = 0;
  virtual std::int64_t latent_channels() const = 0;
  /// Whether it reads the strength of guidance.
  virtual bool reads_guidance() const { return false; }

  /// The blocks in their order, as their layers' names begin: "transformer_blocks.0.".
  virtual std::vector<std::string> blocks() const = 0;

  /// What the first block reads, for one picture.
  virtual BlockState begin(const DenoiserInput& input) = 0;
  virtual void run_block(std::size_t block, BlockState& state) = 0;
  /// d latents / d sigma [1, C, h, w], of what the last block left.
  virtual torch::Tensor finish(const BlockState& state) = 0;

  /// Classifier-free guidance: from the velocity of a negative prompt past the prompt's own.
  virtual torch::Tensor guide(const torch::Tensor& wanted, const torch::Tensor& unwanted,
                              double strength) const {
    return unwanted + strength * (wanted - unwanted);
  }

  /// All of it.
  torch::Tensor velocity(const DenoiserInput& input);
};

/// Reads a model's `transformer/` by the class that its config.json names. On the meta device
/// nothing but the configuration is read: for what is to be known before. Throws Error for another
/// class, and as load_transformer does.
std::unique_ptr<BlockwiseTransformer> open_blockwise(const std::filesystem::path& transformer,
                                                     const torch::TensorOptions& options,
                                                     const LoadProgress& on_progress = {});

/// The classes that open_blockwise reads, for messages.
std::string blockwise_classes();

}  // namespace rtlynx
