// SPDX-License-Identifier: Apache-2.0
#include "compensate/weight24.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "compensate/second_moment.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kGroup = 4;
constexpr std::int64_t kKept = 2;
constexpr double kRiaExponent = 0.5;
constexpr BawaExponents kWandaExponents = {0, 0, 1};

// numerator / divisor, and 0 where the divisor is: a row or column of zeros has no scores.
torch::Tensor divide_or_zero(const torch::Tensor& numerator, const torch::Tensor& divisor) {
  return torch::where(divisor == 0, torch::zeros_like(numerator), numerator / divisor);
}

PrunedWeight keep(const torch::Tensor& weight, const torch::Tensor& scores) {
  return {.sparse = weight * keep_two_of_four(scores), .order = {}, .low_rank = {}};
}

torch::Tensor wanda_scores(const torch::Tensor& weight, const torch::Tensor& second_moment) {
  check_moment("prune_by_wanda", weight, second_moment);
  return weight.abs() * channel_rms(second_moment);
}

// A step of the search may not make a norm's influence negative.
BawaExponents mutate(const BawaExponents& parent, double spread, at::Generator& generator) {
  const torch::Tensor step = torch::randn({3}, generator, torch::kFloat64);
  BawaExponents child = parent;
  for (std::size_t i = 0; i < child.size(); ++i) {
    child[i] = std::max(0.0, child[i] + spread * step[static_cast<std::int64_t>(i)].item<double>());
  }
  return child;
}

}  // namespace

torch::Tensor PrunedWeight::effective() const {
  return low_rank.defined() ? sparse + low_rank.product() : sparse;
}

double PrunedWeight::relative_flops() const {
  const auto outputs = static_cast<double>(sparse.size(0));
  const auto inputs = static_cast<double>(sparse.size(1));
  return 0.5 + static_cast<double>(low_rank.rank()) * (inputs + outputs) / (inputs * outputs);
}

Replacement PrunedWeight::replacement() const {
  require(!order.defined(), "PrunedWeight", "groups of consecutive channels", "reordered ones");
  return {.axes = {}, .weight = sparse, .down = low_rank.down, .up = low_rank.up, .sparse = true};
}

torch::Tensor keep_two_of_four(const torch::Tensor& scores) {
  const bool groups = scores.dim() == 2 && scores.size(1) % kGroup == 0;
  require(groups, "2:4 pruning", "a weight [N, K] with K divisible by 4",
          scores.dim() == 2 ? std::to_string(scores.size(1)) + " input channels"
                            : std::to_string(scores.dim()) + " dimensions");
  const torch::Tensor own = scores.unflatten(1, {-1, kGroup}).unsqueeze(-1);
  const torch::Tensor other = own.transpose(-1, -2);
  const torch::Tensor lower =
      torch::ones({kGroup, kGroup}, scores.options().dtype(torch::kBool)).tril(-1);
  const torch::Tensor better = (other > own) | ((other == own) & lower);  // [N, K/4, 4, 4]
  return (better.sum(-1) < kKept).flatten(1);
}

torch::Tensor snake_order(const torch::Tensor& importance) {
  require(importance.dim() == 1 && importance.size(0) % kGroup == 0, "snake_order",
          "an importance per channel [K], K divisible by 4",
          std::to_string(importance.numel()) + " values");
  const torch::Tensor ranked = importance.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  std::vector<torch::Tensor> slots;
  for (const torch::Tensor& quarter : ranked.chunk(kGroup)) {
    slots.push_back(slots.size() % 2 == 0 ? quarter : quarter.flip(0));
  }
  return torch::stack(slots, /*dim=*/1).flatten();
}

PrunedWeight prune_by_magnitude(const torch::Tensor& weight) {
  const torch::Tensor wide = weight.detach().to(torch::kFloat64);
  return keep(wide, wide.abs());
}

PrunedWeight prune_by_wanda(const torch::Tensor& weight, const torch::Tensor& second_moment) {
  const torch::Tensor wide = weight.detach().to(torch::kFloat64);
  return keep(wide, wanda_scores(wide, second_moment));
}

PrunedWeight prune_by_ria(const torch::Tensor& weight, const torch::Tensor& second_moment,
                          ChannelOrder order) {
  check_moment("prune_by_ria", weight, second_moment);
  const torch::Tensor wide = weight.detach().to(torch::kFloat64);
  const torch::Tensor size = wide.abs();
  const torch::Tensor relative = divide_or_zero(size, size.sum(0, /*keepdim=*/true)) +
                                 divide_or_zero(size, size.sum(1, /*keepdim=*/true));
  const torch::Tensor scores = relative * channel_rms(second_moment).pow(kRiaExponent);
  if (order == ChannelOrder::as_it_is) return keep(wide, scores);
  const torch::Tensor channels = snake_order(scores.sum(0));
  const torch::Tensor mask = keep_two_of_four(scores.index_select(1, channels));
  const torch::Tensor back = channels.argsort();
  return {.sparse = wide * mask.index_select(1, back), .order = channels, .low_rank = {}};
}

PrunedWeight prune_bawa_style(const torch::Tensor& weight, const torch::Tensor& second_moment,
                              const BawaExponents& exponents) {
  check_moment("prune_bawa_style", weight, second_moment);
  const torch::Tensor wide = weight.detach().to(torch::kFloat64);
  const torch::Tensor size = wide.abs();
  const auto norms = [&](std::int64_t dim) { return wide.norm(2, {dim}, /*keepdim=*/true); };
  const torch::Tensor relative = divide_or_zero(size, norms(0).pow(exponents[0])) +
                                 divide_or_zero(size, norms(1).pow(exponents[1]));
  return keep(wide, relative * channel_rms(second_moment).pow(exponents[2]));
}

BawaExponents search_bawa_exponents(const torch::Tensor& weight, const torch::Tensor& second_moment,
                                    const BawaSearch& search) {
  require(search.evaluations >= 1, "search_bawa_exponents", "at least one evaluation",
          std::to_string(search.evaluations));
  const torch::Tensor wide = weight.detach().to(torch::kFloat64);
  const auto error = [&](const BawaExponents& exponents) {
    return output_energy(wide - prune_bawa_style(wide, second_moment, exponents).sparse,
                         second_moment);
  };
  auto generator = at::detail::createCPUGenerator(search.seed);
  BawaExponents best = kWandaExponents;
  double least = error(best);
  // Spread grows after a success and shrinks after a failure so that one step in five succeeds.
  constexpr double kFirstSpread = 0.5, kGrow = 1.5, kShrink = 0.9036;  // 1.5 * 0.9036^4 = 1
  double spread = kFirstSpread;
  for (int i = 1; i < search.evaluations; ++i) {
    const BawaExponents child = mutate(best, spread, generator);
    const double value = error(child);
    const bool success = value < least;
    spread *= success ? kGrow : kShrink;
    if (!success) continue;
    best = child;
    least = value;
  }
  return best;
}

PrunedWeight prune_by_slim(const torch::Tensor& weight, const torch::Tensor& second_moment,
                           std::int64_t rank) {
  check_moment("prune_by_slim", weight, second_moment);
  const torch::Tensor wide = weight.detach().to(torch::kFloat64);
  const torch::Tensor mask = keep_two_of_four(wanda_scores(wide, second_moment));
  torch::Tensor norms = channel_rms(second_moment);
  const torch::Tensor used = norms.masked_select(norms > 0);
  // Without any norm to go by, all channels are alike.
  const torch::Tensor least = used.numel() > 0 ? used.min() : torch::ones({}, norms.options());
  norms = torch::where(norms > 0, norms, least);
  const std::int64_t own = std::max<std::int64_t>(1, std::min(wide.size(0), wide.size(1)) / 10);
  PrunedWeight pruned{.sparse = {},
                      .order = {},
                      .low_rank = closest_low_rank(wide - wide * mask, norms.square().diag(),
                                                   rank > 0 ? rank : own)};
  pruned.sparse = mask * (wide - pruned.low_rank.product());
  return pruned;
}

PrunedWeight with_low_rank(PrunedWeight pruned, const torch::Tensor& weight,
                           const torch::Tensor& second_moment, std::int64_t rank) {
  require(!pruned.low_rank.defined(), "with_low_rank", "a pruned weight without a low rank",
          "one with rank " + std::to_string(pruned.low_rank.rank()));
  pruned.low_rank =
      closest_low_rank(weight.detach().to(torch::kFloat64) - pruned.sparse, second_moment, rank);
  return pruned;
}

}  // namespace rtlynx
