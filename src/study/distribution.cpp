// SPDX-License-Identifier: Apache-2.0
#include "study/distribution.h"

#include "ops/ops.h"

namespace rtlynx {

void Distribution::add(const torch::Tensor& rows) {
  torch::Tensor wide = rows.detach().to(torch::kFloat32);
  const torch::Tensor square_mean = wide.square().mean(1);
  const torch::Tensor used = square_mean > 0;
  wide = wide.index({used}) * square_mean.index({used}).rsqrt().unsqueeze(1);
  if (wide.size(0) == 0) return;
  const torch::Tensor kept = std::get<0>(ops::sparsify24(wide, /*norm=*/false));
  const torch::Tensor squares = wide.square();
  rows_ += static_cast<double>(wide.size(0));
  values_ += static_cast<double>(wide.numel());
  fourth_powers_ += squares.square().sum(torch::kFloat64).item<double>();
  near_zero_ += static_cast<double>((wide.abs() < kNearZero).sum().item<std::int64_t>());
  kept_energy_ += kept.square().sum(torch::kFloat64).item<double>() /
                  static_cast<double>(wide.size(1));  // each row's energy is K
  const double bin = 2 * kRange / kBins;
  const torch::Tensor index =
      ((wide + kRange) / bin).floor().clamp(0, kBins - 1).to(torch::kInt64).flatten();
  const torch::Tensor counts = torch::bincount(index, /*weights=*/{}, kBins).to(torch::kCPU);
  for (int i = 0; i < kBins; ++i) {
    counts_[static_cast<std::size_t>(i)] += static_cast<double>(counts[i].item<std::int64_t>());
  }
}

double Distribution::kurtosis() const { return values_ > 0 ? fourth_powers_ / values_ : 0; }

double Distribution::near_zero() const { return values_ > 0 ? near_zero_ / values_ : 0; }

double Distribution::kept_energy() const { return rows_ > 0 ? kept_energy_ / rows_ : 0; }

std::vector<double> Distribution::density() const {
  std::vector<double> density = counts_;
  const double whole = values_ * 2 * kRange / kBins;
  for (double& value : density) value = whole > 0 ? value / whole : 0;
  return density;
}

std::vector<double> Distribution::edges() {
  std::vector<double> edges;
  for (int i = 0; i <= kBins; ++i) edges.push_back(-kRange + 2 * kRange * i / kBins);
  return edges;
}

nlohmann::ordered_json Distribution::to_json() const {
  return {{"kurtosis", kurtosis()},
          {"near_zero", near_zero()},
          {"kept_energy", kept_energy()},
          {"density", density()}};
}

}  // namespace rtlynx
