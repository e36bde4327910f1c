// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <tuple>

#include "base/libtorch.h"
#include "layers/sparse_linear.h"

namespace rtlynx::test {

/// How the layers of the paper's recipe run.
enum class Form { dense, norm, low_rank, transformed };
inline constexpr Form kForms[] = {Form::dense, Form::norm, Form::low_rank, Form::transformed};

inline std::string name_of(Form form) {
  switch (form) {
    case Form::dense:
      return "dense";
    case Form::norm:
      return "norm";
    case Form::low_rank:
      return "low rank";
    case Form::transformed:
      return "transformed";
  }
  return "";
}

/// Orthogonal blocks, one transform for all that read an input of so many channels.
inline torch::Tensor blocks_of(std::int64_t channels, std::int64_t block) {
  torch::manual_seed(channels);
  return std::get<0>(torch::linalg_qr(torch::randn({channels / block, block, block})));
}

inline void set_form(SparseLinear& linear, Form form) {
  if (form == Form::norm) {
    linear->set_mode(LinearMode::norm);
    return;
  }
  const std::int64_t inputs = linear->in_features(), outputs = linear->out_features();
  constexpr std::int64_t kRank = 24;  // not a multiple of 16: it is padded
  Compensation24 compensation;
  compensation.down = 0.05 * torch::randn({kRank, inputs});
  compensation.up = 0.05 * torch::randn({outputs, kRank});
  if (form == Form::transformed) {
    compensation.transform.blocks = blocks_of(inputs, 64);
    compensation.weight = compensation.transform.weight_for_z(linear->weight).to(torch::kFloat32);
  }
  linear->set_compensation(compensation);
  linear->set_mode(LinearMode::compensated);
}

}  // namespace rtlynx::test
