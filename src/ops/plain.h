// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "ops/arguments.h"

/// pack and product by torch's own operators, on any device: right, and not fast. Their operand is
/// X~ [.., K] with its zeros written out. Everything is computed in fp32 and rounded where
/// rtlynx/pack24.h and rtlynx/product24.h round.
namespace rtlynx::ops::plain {

Packed pack(const PackTensors& tensors);

/// Into `out`, one [.., N_i] for each weight, if given; else into new tensors.
std::vector<Tensor> product(const ProductTensors& tensors,
                            const std::vector<Tensor>* out = nullptr);

/// Sparse weights: pack_weight keeps them with their zeros written out, and the product of a dense
/// input is that of a packed one whose scale is 1.
Tensor pack_weight(const Tensor& weight);
std::vector<Tensor> weight_product(const ProductTensors& tensors,
                                   const std::vector<Tensor>* out = nullptr);

}  // namespace rtlynx::ops::plain
