// SPDX-License-Identifier: Apache-2.0
#include "study/method_costs.h"

#include "compensate/fixed_choice.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kBlock = 64;

// Costs look at shapes alone: one number in memory, whatever the shape.
torch::Tensor shaped(torch::IntArrayRef shape) { return torch::zeros({1}).expand(shape); }

class Lister {
 public:
  Lister(const LayerWork& work, std::int64_t rank) : work_(work), rank_(rank) {
    const LayerCost dense = dense_cost(CostMeasure::time, work);
    dense_us_ = dense.value.value();
    costs_.push_back(
        {.method = "dense", .us = dense_us_, .relative_us = 1, .source = dense.source});
  }

  std::vector<MethodCost> list() {
    add("activation 2:4", activations(0, 0));
    if (rank_ > 0) add("activation 2:4, low rank", activations(0, rank_));
    if (work_.in_features % kBlock == 0) {
      add("activation 2:4, blocks of 64", activations(kBlock, 0));
      if (rank_ > 0) add("activation 2:4, blocks of 64, low rank", activations(kBlock, rank_));
    }
    add("weight 2:4", weights(0));
    if (rank_ > 0) add("weight 2:4, low rank", weights(rank_));
    const std::int64_t half = rank_of_half(work_.out_features, work_.in_features);
    add("fixed low rank", fixed({.down = down(half), .up = up(half)}));
    if (work_.in_features % kBlock == 0) add("fixed half of the axes", fixed(half_of_axes()));
    return std::move(costs_);
  }

 private:
  torch::Tensor down(std::int64_t rank) const { return shaped({rank, work_.in_features}); }
  torch::Tensor up(std::int64_t rank) const { return shaped({work_.out_features, rank}); }

  LayerCompensation activations(std::int64_t block, std::int64_t rank) const {
    LayerCompensation layer;
    if (rank > 0) layer.values.down = down(rank), layer.values.up = up(rank);
    if (block > 0) {
      layer.values.transform.blocks = shaped({work_.in_features / block, block, block});
    }
    return layer;
  }

  LayerCompensation weights(std::int64_t rank) const {
    Replacement pruned{.weight = shaped({work_.out_features, work_.in_features}), .sparse = true};
    if (rank > 0) pruned.down = down(rank), pruned.up = up(rank);
    return fixed(pruned);
  }

  Replacement half_of_axes() const {
    return {.axes = shaped({work_.in_features / kBlock, kBlock, kBlock / 2}),
            .weight = shaped({work_.out_features, work_.in_features / 2})};
  }

  static LayerCompensation fixed(const Replacement& replacement) {
    LayerCompensation layer;
    layer.replacement = replacement;
    return layer;
  }

  void add(const std::string& method, const LayerCompensation& layer) {
    const LayerCost cost = layer_cost(CostMeasure::time, work_, layer);
    MethodCost& added = costs_.emplace_back();
    added.method = method;
    added.relative_flops = relative_flops(layer, work_);
    added.us = cost.value;
    if (cost.value) added.relative_us = *cost.value / dense_us_;
    added.source = cost.source;
  }

  LayerWork work_;
  std::int64_t rank_;
  double dense_us_ = 0;
  std::vector<MethodCost> costs_;
};

}  // namespace

std::vector<MethodCost> method_costs(const LayerWork& work, std::int64_t rank) {
  return Lister(work, rank).list();
}

}  // namespace rtlynx
