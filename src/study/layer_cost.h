// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "compensate/compensation_file.h"
#include "study/velocity_error.h"

namespace rtlynx {

/// In what a layer's work is counted.
enum class CostMeasure {
  multiplications,  ///< on paper: choosing, permuting and scaling are free
  time,             ///< microseconds on an H200 in bf16, as kernels/gemm/time_model.h says
};

/// "multiplications" or "time", and the inverse; UsageError for any other text.
std::string_view to_string(CostMeasure measure);
CostMeasure cost_measure_from_string(std::string_view text);

/// What a Linear is asked to do in one call of the model.
struct LayerWork {
  std::int64_t tokens = 0;
  std::int64_t in_features = 0;
  std::int64_t out_features = 0;
  double input_share = 1;  ///< of its input's transform, which the layers that read it pay together
};

/// Of every Linear of the model, for `pictures` drawn at once, guidance branches as in the
/// trajectory; input_share is left at 1.
std::map<std::string, LayerWork> layer_work(Pipeline& pipeline, const DenseTrajectory& trajectory,
                                            int pictures);

/// Multiplications per token of a Linear under `layer`, relative to dense: of sparse activations a
/// half, the low rank's r (N + K) and the share of the transform's blocks g K.
double relative_flops(const LayerCompensation& layer, const LayerWork& work);

struct LayerCost {
  std::optional<double> value;  ///< nothing where no kernel takes the layer, which then runs dense
  std::string source;           ///< such as "measured", or why there is no kernel
};

LayerCost dense_cost(CostMeasure measure, const LayerWork& work);

/// Of a layer that does not run dense. In time:
///   activation 2:4  pack and product (linear_times); blocks of 64 lengthen the pack by 5 %, the
///                   most that was measured (docs/kernels.md), others in proportion;
///   weight 2:4      the same product without a pack, which takes as long (docs/kernels.md); X is
///                   read once more for a low rank;
///   fixed choice    dense products of its shapes, and a pack's time for axes.
LayerCost layer_cost(CostMeasure measure, const LayerWork& work, const LayerCompensation& layer);

}  // namespace rtlynx
