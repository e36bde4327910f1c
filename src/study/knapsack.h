// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace rtlynx {

/// The multiple-choice knapsack: of every item at most one option is taken. Errors add up, and so
/// does what is saved.

struct KnapsackOption {
  std::size_t method = 0;  ///< options of one method are alike across items
  double error = 0;        ///< not negative
  double saved = 0;        ///< options that save nothing are never taken
};

using KnapsackItems = std::vector<std::vector<KnapsackOption>>;  // [item][option]

/// From now on `item` takes `option`; before, `previous`.
struct KnapsackStep {
  std::size_t item = 0;
  std::size_t option = 0;
  std::optional<std::size_t> previous;
  double error = 0;  ///< that it adds
  double saved = 0;

  double price() const { return error / saved; }
};

/// What is taken, as the steps that led there, best bargain first.
struct KnapsackPlan {
  std::vector<KnapsackStep> steps;
  double error = 0;
  double saved = 0;

  /// By item; nothing where it stays as it was.
  std::vector<std::optional<std::size_t>> taken(std::size_t items) const;

  /// Takes the last step back.
  void undo();
};

/// Every step that may be worth it: along the lower convex hull of each item's options, in the
/// order of error per saved (the greedy of Sinha and Zoltners 1979, optimal wherever it can stop).
std::vector<KnapsackStep> bargains(const KnapsackItems& items);

/// Saves as much as the errors' sum allows, up to the first bargain that does not fit.
KnapsackPlan take_within_error(const KnapsackItems& items, double error);

/// Saves at least `saved`, with the fewest bargains. Nothing if all of them together do not.
std::optional<KnapsackPlan> take_until_saved(const KnapsackItems& items, double saved);

/// The better of a mixture and of each method alone, by the two functions above: a mixture may pass
/// its mark by more than a single method does. No worse than any of them.
KnapsackPlan mix_within_error(const KnapsackItems& items, double error);
std::optional<KnapsackPlan> mix_until_saved(const KnapsackItems& items, double saved);

}  // namespace rtlynx
