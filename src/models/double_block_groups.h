// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/layer_group.h"

namespace rtlynx {

/// What families name differently in a double-stream block, in which text and image attend jointly
/// and have their own weights. The attention's layers have the same names in all.
struct DoubleBlockNames {
  /// One stream's modulation, a Linear in a module ("norm1.linear"), and its MLP.
  struct Side {
    const char* modulation;
    const char* mlp;
  };
  Side text, image;
};

/// Collects the groups of one block, whose MLP is `kMlpRatio` times as wide as the block.
class BlockGroups {
 public:
  static constexpr std::int64_t kMlpRatio = 4;

  BlockGroups(std::int64_t dim, std::int64_t head_dim, std::string block,
              std::vector<LayerGroup>& groups)
      : dim_(dim), head_dim_(head_dim), block_(std::move(block)), groups_(groups) {}

  /// All groups of a double block.
  void add_double_block(const DoubleBlockNames& names);

  void add(const std::string& group, TokenStream stream, std::vector<InputPart> parts,
           std::vector<GroupLayer> layers);

  // Names are those in the block.
  GroupLayer layer(const std::string& name, std::int64_t outputs, bool in_paper = true) const {
    return {block_ + name, outputs, in_paper};
  }
  InputPart modulated(const std::string& modulation, int shift, int scale) const;
  InputPart attention(const std::vector<std::string>& values) const;
  InputPart gelu(const std::string& up) const;

 private:
  std::int64_t dim_;
  std::int64_t head_dim_;
  std::string block_;
  std::vector<LayerGroup>& groups_;
};

}  // namespace rtlynx
