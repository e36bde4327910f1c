// SPDX-License-Identifier: Apache-2.0
#include "compensate/closed_form.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "compensate/second_moment.h"
#include "compensate/spectral.h"
#include "layers/finite.h"
#include "ops/ops.h"

namespace rtlynx {
namespace {

// W [N, K] in fp64 beside the moments, once both are known to fit.
torch::Tensor checked(const InputMoments& moments, const torch::Tensor& weight) {
  require(moments.tokens > 0 && moments.xs.defined(), "closed form",
          "moments of inputs and of what was selected", "a part of them");
  if (weight.dim() != 2 || weight.size(1) != moments.channels()) {
    std::ostringstream arrived;
    arrived << weight.sizes();
    fail("closed form", "a weight [N, " + std::to_string(moments.channels()) + "]", arrived.str());
  }
  return weight.detach().to(moments.xx.options());
}

}  // namespace

LayerFit low_rank_on_input(const InputMoments& moments, const torch::Tensor& weight,
                           std::int64_t rank, double damping) {
  const torch::Tensor w = checked(moments, weight);
  static const auto op = ops::find_op<std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, std::int64_t, double)>(
      "rtlynx::low_rank_on_input");
  auto [down, up] = op.call(moments.xx, moments.xs, w, rank, damping);
  return {.weight = w, .low_rank = {.down = std::move(down), .up = std::move(up)}};
}

LayerFit refit(const InputMoments& moments, const torch::Tensor& weight, double damping) {
  const torch::Tensor w = checked(moments, weight);
  static const auto op =
      ops::find_op<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, double)>(
          "rtlynx::refit");
  return {.weight = op.call(moments.xs, moments.ss, w, damping), .low_rank = {}};
}

LayerFit refit_with_low_rank(const InputMoments& moments, const torch::Tensor& weight,
                             std::int64_t rank, double damping) {
  const torch::Tensor w = checked(moments, weight);
  static const auto op = ops::find_op<std::tuple<at::Tensor, at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, std::int64_t,
      double)>("rtlynx::refit_with_low_rank");
  auto [refitted, down, up] = op.call(moments.xx, moments.xs, moments.ss, w, rank, damping);
  return {.weight = std::move(refitted),
          .low_rank = {.down = std::move(down), .up = std::move(up)}};
}

double relative_output_error(const InputMoments& moments, const torch::Tensor& weight,
                             const LayerFit& fit) {
  const torch::Tensor w = checked(moments, weight);
  const double whole = output_energy(w, moments.xx);
  require_finite(whole, "relative_output_error, energy of the outputs");
  if (whole <= 0) return 0;
  // What is left to the product that reads S.
  const torch::Tensor rest = fit.low_rank.defined() ? w - fit.low_rank.product() : w;
  const double cross = (rest.mm(moments.xs) * fit.weight).sum().item<double>();
  const double lost =
      output_energy(rest, moments.xx) - 2 * cross + output_energy(fit.weight, moments.ss);
  require_finite(lost, "relative_output_error, energy of the error");
  return std::sqrt(std::max(lost, 0.0) / whole);
}

double unrecoverable_share(const InputMoments& moments, const torch::Tensor& weight,
                           std::int64_t rank, double damping) {
  const torch::Tensor w = checked(moments, weight);
  const double whole = output_energy(w, moments.xx);
  require_finite(whole, "unrecoverable_share, energy of the outputs");
  if (whole <= 0) return 0;
  static const auto op = ops::find_op<std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, double)>("rtlynx::recovery");
  const torch::Tensor residual = std::get<1>(op.call(moments.xx, moments.xs, moments.ss, damping));
  const torch::Tensor rest = w - closest_low_rank(w, residual, rank).product();
  return std::clamp(output_energy(rest, residual) / whole, 0.0, 1.0);
}

}  // namespace rtlynx
