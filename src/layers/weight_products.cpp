// SPDX-License-Identifier: Apache-2.0
#include "layers/weight_products.h"

#include <algorithm>

#include "layers/linear_form.h"
#include "rtlynx/limits.h"

namespace rtlynx {

bool WeightProducts::add(std::size_t member, const Replacement& replacement,
                         const torch::Tensor& bias, ops::Activation activation) {
  if (!replacement.sparse || replacement.weight.size(0) % kOutputMultiple != 0 ||
      replacement.rank() > kMaxRank) {
    return false;
  }
  ops::WeightLayer layer{.weight = ops::pack_weight(replacement.weight),
                         .outputs = replacement.weight.size(0),
                         .bias = replacement.bias.defined() ? replacement.bias : bias,
                         .activation = activation};
  if (layer.weight.scalar_type() != torch::kByte) return false;
  torch::Tensor down;
  if (replacement.down.defined()) {
    down = padded_rank(replacement.down, 0);
    layer.up = padded_rank(replacement.up, 1).contiguous();
  }
  const std::int64_t rank = down.defined() ? down.size(0) : 0;
  const auto fits = [&](const Product& product) {
    const std::int64_t used = product.down.defined() ? product.down.size(0) : 0;
    const torch::Tensor& up = product.layers.front().up;
    return product.layers.size() < kMaxProducts && (up.defined() ? up.size(1) : 0) == rank &&
           used + rank <= kMaxLowColumns;
  };
  const auto at = std::find_if(products_.begin(), products_.end(), fits);
  Product& product = at != products_.end() ? *at : products_.emplace_back();
  if (down.defined()) {
    layer.low_start = product.down.defined() ? product.down.size(0) : 0;
    product.down = product.down.defined() ? torch::cat({product.down, down}) : down;
  }
  product.layers.push_back(std::move(layer));
  product.members.push_back(member);
  return true;
}

void WeightProducts::run(const torch::Tensor& z, std::vector<torch::Tensor>& results) const {
  for (const Product& product : products_) {
    const torch::Tensor low = product.down.defined()
                                  ? torch::linear(z, product.down)
                                  : torch::empty({z.size(0), z.size(1), 0}, z.options());
    const bool placed = std::any_of(product.members.begin(), product.members.end(),
                                    [&](std::size_t member) { return results[member].defined(); });
    if (!placed) {
      std::vector<torch::Tensor> ys = ops::weight_product(z, low, product.layers);
      for (std::size_t i = 0; i < ys.size(); ++i) results[product.members[i]] = std::move(ys[i]);
      continue;
    }
    std::vector<torch::Tensor> places;
    for (std::size_t i = 0; i < product.members.size(); ++i) {
      torch::Tensor& place = results[product.members[i]];
      if (!place.defined()) {
        place = torch::empty({z.size(0), z.size(1), product.layers[i].outputs}, z.options());
      }
      places.push_back(place);
    }
    ops::weight_product_out(z, low, product.layers, places);
  }
}

std::vector<std::size_t> WeightProducts::members() const {
  std::vector<std::size_t> all;
  for (const Product& product : products_) {
    all.insert(all.end(), product.members.begin(), product.members.end());
  }
  return all;
}

}  // namespace rtlynx
