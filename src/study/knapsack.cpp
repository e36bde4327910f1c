// SPDX-License-Identifier: Apache-2.0
#include "study/knapsack.h"

#include <algorithm>
#include <set>
#include <utility>

namespace rtlynx {
namespace {

constexpr double kRounding = 1e-12;  // sums in another order

// The steps of one item, each dearer than the one before.
std::vector<KnapsackStep> hull(std::size_t item, const std::vector<KnapsackOption>& options) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (options[i].saved > 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(options[a].saved, -options[a].error) <
           std::pair(options[b].saved, -options[b].error);
  });
  std::vector<KnapsackStep> steps;
  for (const std::size_t option : order) {
    for (;;) {
      const std::optional<std::size_t> last =
          steps.empty() ? std::nullopt : std::optional(steps.back().option);
      const KnapsackOption from = last ? options[*last] : KnapsackOption{};
      const KnapsackStep step{.item = item,
                              .option = option,
                              .previous = last,
                              .error = options[option].error - from.error,
                              .saved = options[option].saved - from.saved};
      // A better bargain than the last step takes its place.
      const bool better =
          last && (step.saved <= 0 ? step.error <= 0 : step.price() <= steps.back().price());
      if (better) {
        steps.pop_back();
        continue;
      }
      if (step.saved > 0) steps.push_back(step);
      break;
    }
  }
  return steps;
}

void take(KnapsackPlan& plan, const KnapsackStep& step) {
  plan.steps.push_back(step);
  plan.error += step.error;
  plan.saved += step.saved;
}

// The items with the options of one method alone, and their indices among all.
KnapsackItems only(const KnapsackItems& items, std::size_t method,
                   std::vector<std::vector<std::size_t>>& indices) {
  KnapsackItems kept(items.size());
  indices.assign(items.size(), {});
  for (std::size_t item = 0; item < items.size(); ++item) {
    for (std::size_t option = 0; option < items[item].size(); ++option) {
      if (items[item][option].method != method) continue;
      kept[item].push_back(items[item][option]);
      indices[item].push_back(option);
    }
  }
  return kept;
}

std::set<std::size_t> methods_of(const KnapsackItems& items) {
  std::set<std::size_t> methods;
  for (const auto& options : items) {
    for (const KnapsackOption& option : options) methods.insert(option.method);
  }
  return methods;
}

// `solve` on all options, then on those of each method; `better` says when a plan takes the lead.
template <typename Solve, typename Better>
std::optional<KnapsackPlan> best_plan(const KnapsackItems& items, const Solve& solve,
                                      const Better& better) {
  std::optional<KnapsackPlan> best = solve(items);
  for (const std::size_t method : methods_of(items)) {
    std::vector<std::vector<std::size_t>> indices;
    std::optional<KnapsackPlan> plan = solve(only(items, method, indices));
    if (!plan || (best && !better(*plan, *best))) continue;
    for (KnapsackStep& step : plan->steps) {
      step.option = indices[step.item][step.option];
      if (step.previous) step.previous = indices[step.item][*step.previous];
    }
    best = std::move(plan);
  }
  return best;
}

}  // namespace

std::vector<std::optional<std::size_t>> KnapsackPlan::taken(std::size_t items) const {
  std::vector<std::optional<std::size_t>> options(items);
  for (const KnapsackStep& step : steps) options[step.item] = step.option;
  return options;
}

void KnapsackPlan::undo() {
  error -= steps.back().error;
  saved -= steps.back().saved;
  steps.pop_back();
}

std::vector<KnapsackStep> bargains(const KnapsackItems& items) {
  std::vector<KnapsackStep> all;
  for (std::size_t item = 0; item < items.size(); ++item) {
    const std::vector<KnapsackStep> steps = hull(item, items[item]);
    all.insert(all.end(), steps.begin(), steps.end());
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.price() < b.price(); });
  return all;
}

KnapsackPlan take_within_error(const KnapsackItems& items, double error) {
  KnapsackPlan plan;
  for (const KnapsackStep& step : bargains(items)) {
    if (plan.error + step.error > error * (1 + kRounding)) break;
    take(plan, step);
  }
  return plan;
}

std::optional<KnapsackPlan> take_until_saved(const KnapsackItems& items, double saved) {
  KnapsackPlan plan;
  for (const KnapsackStep& step : bargains(items)) {
    if (plan.saved >= saved - kRounding) break;
    take(plan, step);
  }
  if (plan.saved < saved - kRounding) return std::nullopt;
  return plan;
}

KnapsackPlan mix_within_error(const KnapsackItems& items, double error) {
  return *best_plan(
      items,
      [&](const KnapsackItems& some) { return std::optional(take_within_error(some, error)); },
      [](const KnapsackPlan& a, const KnapsackPlan& b) { return a.saved > b.saved; });
}

std::optional<KnapsackPlan> mix_until_saved(const KnapsackItems& items, double saved) {
  return best_plan(
      items, [&](const KnapsackItems& some) { return take_until_saved(some, saved); },
      [](const KnapsackPlan& a, const KnapsackPlan& b) { return a.error < b.error; });
}

}  // namespace rtlynx
