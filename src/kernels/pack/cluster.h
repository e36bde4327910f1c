// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

/// How the Hopper pack kernel shares its work among CTAs.
namespace rtlynx::pack {

inline constexpr int kLargestCluster = 8;  // that every GPU with clusters runs

/// Clusters of each size that a GPU runs at once; index 0 is not used. It depends on the chip: its
/// groups of multiprocessors, of which a cluster needs one, differ in size.
struct ClusterPlaces {
  std::array<int, kLargestCluster + 1> alone{};    // a CTA on a multiprocessor
  std::array<int, kLargestCluster + 1> at_once{};  // as many as find room there
};

/// CTAs that share the channels of a block of tokens: the number that is soonest done; of equals
/// the smaller, which has less to add up. `steps`: of channels.
int choose_cluster(const ClusterPlaces& places, int blocks, int steps);

}  // namespace rtlynx::pack
