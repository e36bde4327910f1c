// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/sharing.h"

#include <algorithm>

namespace rtlynx::pack {
namespace {

// Of a CTA: with fewer its start costs more than its work.
constexpr int kLeastSteps = 3;
// How many times as long two CTAs on a multiprocessor take as one: measured on an H200.
constexpr double kSharing = 1.7;
// Runs that a block is cut into: at most, and where clusters could do as well. One CTA adds up.
constexpr int kMostRuns = 8;
constexpr int kFewRuns = 4;
// What a CTA takes to end a block and begin another.
constexpr int kStepsOfAnEnd = 4;

/// Of at most `most`, those that have work enough.
int useful_ctas(int most, int blocks, int steps) {
  const std::int64_t useful =
      std::min(std::int64_t{blocks} * steps / kLeastSteps, std::int64_t{blocks} * kMostRuns);
  return static_cast<int>(std::clamp<std::int64_t>(useful, 1, most));
}

/// Steps that the busiest multiprocessor takes, in the time of a CTA that is alone.
double busiest(const ClusterPlaces& places, int cluster, int blocks, int steps) {
  const auto own_steps = static_cast<double>(ceil_div(steps, cluster));
  const int alone = places.alone[cluster], at_once = places.at_once[cluster];
  if (blocks <= alone) return own_steps;
  const auto rounds = static_cast<double>(ceil_div(blocks, at_once));
  return rounds * (at_once > alone ? kSharing : 1.0) * own_steps;
}

}  // namespace

int choose_cluster(const ClusterPlaces& places, int blocks, int steps) {
  int best = 1;
  for (int cluster = 2; cluster <= kLargestCluster; ++cluster) {
    if (steps < cluster * kLeastSteps || places.at_once[cluster] == 0) continue;
    if (busiest(places, cluster, blocks, steps) < busiest(places, best, blocks, steps)) {
      best = cluster;
    }
  }
  return best;
}

double filled_by_clusters(const ClusterPlaces& places, int blocks, int steps) {
  const int cluster = choose_cluster(places, blocks, steps);
  const auto rounds = static_cast<double>(ceil_div(blocks, places.at_once[cluster]));
  return blocks * cluster / (rounds * places.at_once[1]);
}

double filled_by_equal_runs(int most, int blocks, int steps) {
  const int runs = useful_ctas(most, blocks, steps) / blocks;  // of a block
  return runs > kFewRuns ? 0.0 : static_cast<double>(runs * blocks) / most;
}

int choose_ctas(int most, int blocks, int steps) {
  const int ctas = useful_ctas(most, blocks, steps);
  if (ctas < blocks) return ctas;
  const int of_a_block = ctas / blocks;
  const std::int64_t longest = ceil_div(std::int64_t{blocks} * steps, ctas);
  return ceil_div(steps, of_a_block) <= longest + kStepsOfAnEnd ? of_a_block * blocks : ctas;
}

}  // namespace rtlynx::pack
