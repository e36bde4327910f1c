// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "ops/arguments.h"
#include "ops/aten.h"
#include "ops/guarded.h"
#include "ops/linear_algebra.h"

// The closed forms that the C++ tools and rtlynx.calibrate share, in fp64 on the moments' device.
namespace rtlynx::ops {
namespace {

constexpr std::int64_t kExactSize = 1024;
constexpr std::int64_t kSpareVectors = 16;
constexpr int kPowerSteps = 6;

void check_matrix(const char* op, const Tensor& tensor) {
  if (tensor.dim() != 2 || tensor.scalar_type() != ScalarType::Double) {
    fail(op, "fp64 matrices", describe(tensor));
  }
}

void check_moment(const char* op, const Tensor& matrix, const Tensor& moment) {
  check_matrix(op, matrix);
  check_matrix(op, moment);
  const std::int64_t channels = matrix.size(1);
  if (moment.size(0) != channels || moment.size(1) != channels) {
    fail(op, "a second moment [K, K] for " + describe(matrix), describe(moment));
  }
}

// eigh orders ascending.
Tensor largest_of(const Tensor& symmetric, std::int64_t count) {
  const Tensor vectors =
      decompose("aten::linalg_eigh", symmetrised(symmetric), std::string("L")).second;
  return call_aten("aten::flip", "", columns_of(vectors, vectors.size(1) - count, count),
                   std::vector<std::int64_t>{1});
}

Tensor random_basis(const Tensor& like, std::int64_t rows, std::int64_t columns) {
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  const Tensor host =
      torch::stable::to(empty_like_device(like, {rows, columns}, ScalarType::Double), cpu);
  double* const values = host.mutable_data_ptr<double>();
  // The same numbers everywhere: the standard fixes the engine, not its distributions.
  std::mt19937_64 engine(0);
  std::generate_n(values, rows * columns,
                  [&] { return static_cast<double>(engine() >> 11) * 0x1p-52 - 1.0; });
  return torch::stable::to(host, like.device());
}

/// Orthonormal vectors of the largest eigenvalues of M C M^T [N, N].
Tensor top_eigenvectors(const Tensor& m, const Tensor& moment, std::int64_t count) {
  const auto apply = [&](const Tensor& q) { return mm(m, mm(moment, mm(transposed(m), q))); };
  const std::int64_t size = m.size(0);
  if (size <= kExactSize) return largest_of(mm(m, mm(moment, transposed(m))), count);
  Tensor basis = random_basis(m, size, std::min(size, count + kSpareVectors));
  // Orthonormal again after each step, or the largest eigenvalue takes over all columns.
  for (int step = 0; step <= kPowerSteps; ++step) {
    basis = decompose("aten::linalg_qr", apply(basis), std::string("reduced")).first;
  }
  return mm(basis, largest_of(mm(transposed(basis), apply(basis)), count));
}

Tensor solve_damped(const Tensor& a, const Tensor& b, double damping) {
  const NoGrad no_grad;
  check_moment("solve_damped", transposed(b), a);
  // Inputs that are always zero have no direction to solve for.
  const Tensor used = call_aten("aten::count_nonzero", "", a, std::optional<std::int64_t>());
  if (value_of(used) == 0) {
    Tensor none = torch::stable::clone(b);
    return torch::stable::zero_(none);
  }
  Tensor damped = symmetrised(a);
  add_to_diagonal(damped, times(mean_of(diagonal_of(damped)), number(a, damping)));
  std::array<StableIValue, 3> stack{torch::stable::detail::from(damped),
                                    torch::stable::detail::from(false),
                                    torch::stable::detail::from(false)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::linalg_cholesky_ex", "", stack.data(), TORCH_ABI_VERSION));
  const Tensor factor = torch::stable::detail::to<Tensor>(stack[0]);
  require(value_of(torch::stable::detail::to<Tensor>(stack[1])) == 0, "solve_damped",
          "a positive definite matrix once damped by " + std::to_string(damping) +
              " of its mean diagonal",
          "an indefinite one, or one that is not finite");
  return call_aten("aten::cholesky_solve", "", b, factor, false);
}

std::tuple<Tensor, Tensor> closest_low_rank(const Tensor& matrix, const Tensor& moment,
                                            std::int64_t rank) {
  const NoGrad no_grad;
  check_moment("closest_low_rank", matrix, moment);
  const std::int64_t outputs = matrix.size(0), most = std::min(outputs, matrix.size(1));
  if (rank < 1 || rank > most) {
    fail("closest_low_rank", "a rank from 1 to " + std::to_string(most), std::to_string(rank));
  }
  if (outputs > matrix.size(1)) {
    // M = Q R with orthonormal Q: the leading eigenvectors of M C M^T are Q times those of R C R^T.
    const auto [q, r] = decompose("aten::linalg_qr", matrix, std::string("reduced"));
    const auto [down, up] = closest_low_rank(r, moment, rank);
    return {down, mm(q, up)};
  }
  const Tensor up = top_eigenvectors(matrix, moment, rank);
  return {mm(transposed(up), matrix), up};
}

std::tuple<Tensor, Tensor> low_rank_on_input(const Tensor& xx, const Tensor& xs,
                                             const Tensor& weight, std::int64_t rank,
                                             double damping) {
  const NoGrad no_grad;
  check_moment("low_rank_on_input", weight, xx);
  check_moment("low_rank_on_input", weight, xs);
  const Tensor regression = solve_damped(xx, mm(minus(xx, xs), transposed(weight)), damping);
  return closest_low_rank(transposed(regression), xx, rank);
}

Tensor refit(const Tensor& xs, const Tensor& ss, const Tensor& weight, double damping) {
  const NoGrad no_grad;
  check_moment("refit", weight, xs);
  check_moment("refit", weight, ss);
  const Tensor change =
      solve_damped(ss, mm(minus(transposed(xs), ss), transposed(weight)), damping);
  return plus(weight, transposed(change));
}

std::tuple<Tensor, Tensor> recovery(const Tensor& xx, const Tensor& xs, const Tensor& ss,
                                    double damping) {
  const NoGrad no_grad;
  check_moment("recovery", xx, xx);
  check_moment("recovery", xx, xs);
  check_moment("recovery", xx, ss);
  Tensor map = solve_damped(ss, minus(transposed(xs), ss), damping);
  add_to_diagonal(map, number(map, 1.0));
  const Tensor cross = mm(xs, map);
  const Tensor residual =
      plus(minus(minus(xx, cross), transposed(cross)), mm(mm(transposed(map), ss), map));
  return {map, residual};
}

std::tuple<Tensor, Tensor, Tensor> refit_with_low_rank(const Tensor& xx, const Tensor& xs,
                                                       const Tensor& ss, const Tensor& weight,
                                                       std::int64_t rank, double damping) {
  const NoGrad no_grad;
  check_moment("refit_with_low_rank", weight, xx);
  const auto [map, residual] = recovery(xx, xs, ss, damping);
  const auto [down, up] = closest_low_rank(weight, residual, rank);
  return {mm(minus(weight, mm(up, down)), transposed(map)), down, up};
}

}  // namespace
}  // namespace rtlynx::ops

STABLE_TORCH_LIBRARY_IMPL(rtlynx, CompositeExplicitAutograd, m) {
  m.impl("solve_damped", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::solve_damped>::call));
  m.impl("closest_low_rank",
         TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::closest_low_rank>::call));
  m.impl("low_rank_on_input",
         TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::low_rank_on_input>::call));
  m.impl("refit", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::refit>::call));
  m.impl("recovery", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::recovery>::call));
  m.impl("refit_with_low_rank",
         TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::refit_with_low_rank>::call));
}
