// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

/// How the Hopper pack kernel shares its work among CTAs.
namespace rtlynx::pack {

inline constexpr int kLargestCluster = 8;  // that every GPU with clusters runs

/// Clusters of each size that a GPU runs at once; index 0 is not used. It depends on the chip: its
/// groups of multiprocessors, of which a cluster needs one, differ in size.
struct ClusterPlaces {
  std::array<int, kLargestCluster + 1> alone{};    // a CTA on a multiprocessor
  std::array<int, kLargestCluster + 1> at_once{};  // as many as find room there
};

constexpr std::int64_t ceil_div(std::int64_t value, std::int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

/// CTAs that share the channels of a block of tokens: the number that is soonest done; of equals
/// the smaller, which has less to add up. `steps`: of channels.
int choose_cluster(const ClusterPlaces& places, int blocks, int steps);

/// The share of the places for CTAs that these clusters fill.
double filled_by_clusters(const ClusterPlaces& places, int blocks, int steps);

/// The share of `most` CTAs that are busy if every block of tokens is cut into as many runs
/// (runs.h); 0 if there are more blocks than CTAs, or so few that a block would be cut into more
/// runs than have been measured: one CTA adds up all their parts.
double filled_by_equal_runs(int most, int blocks, int steps);

/// CTAs that share the steps of all blocks of tokens (runs.h), of at most `most` >= 1: as many for
/// every block, unless the longest run would then be several steps longer.
int choose_ctas(int most, int blocks, int steps);

}  // namespace rtlynx::pack
