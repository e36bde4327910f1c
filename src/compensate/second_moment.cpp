// SPDX-License-Identifier: Apache-2.0
#include "compensate/second_moment.h"

#include <cmath>
#include <sstream>

#include "base/error.h"
#include "layers/finite.h"

namespace rtlynx {
namespace {

std::string describe(const torch::Tensor& tensor) {
  if (!tensor.defined()) return "none";
  std::ostringstream text;
  text << tensor.sizes() << " of " << tensor.scalar_type() << " on " << tensor.device();
  return text.str();
}

void check_square(std::string_view op, const torch::Tensor& moment) {
  const bool square = moment.defined() && moment.dim() == 2 && moment.size(0) == moment.size(1) &&
                      moment.scalar_type() == torch::kFloat64;
  if (!square) fail(op, "a second moment [K, K] of fp64", describe(moment));
}

}  // namespace

void check_moment(std::string_view op, const torch::Tensor& weight,
                  const torch::Tensor& second_moment) {
  if (!weight.defined() || weight.dim() != 2 || !weight.is_floating_point()) {
    fail(op, "a floating-point weight [N, K]", describe(weight));
  }
  check_square(op, second_moment);
  if (second_moment.size(0) != weight.size(1) || second_moment.device() != weight.device()) {
    fail(op, "a second moment [K, K] for the weight " + describe(weight), describe(second_moment));
  }
}

torch::Tensor channel_rms(const torch::Tensor& second_moment) {
  check_square("channel_rms", second_moment);
  return second_moment.diagonal().clamp_min(0).sqrt();
}

double output_energy(const torch::Tensor& change, const torch::Tensor& second_moment) {
  check_moment("output_energy", change, second_moment);
  const torch::Tensor wide = change.detach().to(torch::kFloat64);
  return (wide.matmul(second_moment) * wide).sum().item<double>();
}

double relative_output_error(const torch::Tensor& weight, const torch::Tensor& replacement,
                             const torch::Tensor& second_moment) {
  const torch::Tensor wide = weight.detach().to(torch::kFloat64);
  const double whole = output_energy(wide, second_moment);
  const double lost = output_energy(wide - replacement.detach().to(torch::kFloat64), second_moment);
  require_finite(whole + lost, "relative_output_error, energy of the outputs");
  if (whole <= 0) return 0;
  return std::sqrt(std::max(lost, 0.0) / whole);
}

double effective_rank(const torch::Tensor& second_moment) {
  check_square("effective_rank", second_moment);
  const torch::Tensor values = torch::linalg_eigvalsh(second_moment).clamp_min(0);
  const double trace = values.sum().item<double>();
  require_finite(trace, "effective_rank, trace of the second moment");
  if (trace <= 0) return 0;
  const torch::Tensor shares = values / trace;
  return std::exp(-torch::xlogy(shares, shares).sum().item<double>());
}

double participation_ratio(const torch::Tensor& second_moment) {
  check_square("participation_ratio", second_moment);
  const double trace = second_moment.trace().item<double>();
  require_finite(trace, "participation_ratio, trace of the second moment");
  if (trace <= 0) return 0;
  return trace * trace / second_moment.square().sum().item<double>();
}

}  // namespace rtlynx
