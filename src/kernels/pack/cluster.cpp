// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/cluster.h"

namespace rtlynx::pack {
namespace {

// Of a CTA: with fewer its start costs more than its work.
constexpr int kLeastSteps = 3;
// How many times as long two CTAs on a multiprocessor take as one: measured on an H200.
constexpr double kSharing = 1.7;

int ceil_div(int value, int divisor) { return (value + divisor - 1) / divisor; }

/// Steps that the busiest multiprocessor takes, in the time of a CTA that is alone.
double busiest(const ClusterPlaces& places, int cluster, int blocks, int steps) {
  const int own_steps = ceil_div(steps, cluster);
  const int alone = places.alone[cluster], at_once = places.at_once[cluster];
  if (blocks <= alone) return own_steps;
  return ceil_div(blocks, at_once) * (at_once > alone ? kSharing : 1.0) * own_steps;
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

}  // namespace rtlynx::pack
