// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <mutex>

#include "kernels/device/tensor_map.h"
#include "kernels/pack/pack24.h"
#include "kernels/pack/sharing.h"
#include "kernels/pack/sm90/kernel.cuh"
#include "kernels/pack/workspace.h"

/// The instances of the Hopper pack kernel for one element type.
namespace rtlynx::pack::sm90 {

inline constexpr int kMostDevices = 64;

// The share of the GPU that runs have to fill beyond what clusters do.
inline constexpr double kWorthRuns = 0.05;

/// [rows, channels] of 16-bit elements in boxes of 64 channels.
template <typename Element>
device::TensorBox matrix_box(const void* data, std::int64_t rows, std::int64_t channels,
                             std::int64_t row_stride, int box_rows) {
  return {.data = data,
          .dtype = std::is_same_v<Element, Bf16> ? DType::bf16 : DType::f16,
          .axes = {{.size = channels, .box = kPackedTileChannels},
                   {.size = rows, .stride = row_stride, .box = box_rows}}};
}

/// The transform [K / block, block outputs, block inputs] in boxes [64 outputs, 64 inputs]. Row
/// 8 j + 2 t + p of a box, whose products lane t of a quad gets, is output 16 t + 2 j + p: so a
/// lane gets 16 neighbours. As axes: input, p, t, j, and the 64 outputs.
template <typename Element>
device::TensorBox transform_box(const Params& params) {
  const std::int64_t block = params.transform_block;
  device::TensorBox box = matrix_box<Element>(params.transform, 2, block, block, /*box_rows=*/2);
  box.axes.push_back({.size = 4, .stride = 16 * block, .box = 4});
  box.axes.push_back({.size = 8, .stride = 2 * block, .box = 8});
  box.axes.push_back(
      {.size = params.channels / kPackedTileChannels, .stride = kPackedTileChannels * block});
  return box;
}

template <typename T>
cudaError_t make_tensor_maps(const Params& params, TensorMaps& maps) {
  using Element = typename T::Element;
  const auto tokens = [&](const void* data) {
    return matrix_box<Element>(data, params.tokens, params.channels, params.row_stride,
                               kTileTokens);
  };
  cudaError_t status = device::make_tensor_map(tokens(params.x), maps.x);
  if (status == cudaSuccess && T::kSwiglu) {
    status = device::make_tensor_map(tokens(params.up), maps.up);
  }
  if (status == cudaSuccess && T::kRank > 0) {
    status = device::make_tensor_map(
        matrix_box<Element>(params.down, params.rank, params.channels, params.channels, T::kRank),
        maps.down);
  }
  if (status == cudaSuccess && T::kTransform > 0) {
    status = device::make_tensor_map(transform_box<Element>(params), maps.transform);
  }
  return status;
}

inline cudaLaunchAttribute cluster_of(int ctas) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(ctas), 1, 1};
  return attribute;
}

template <typename T>
cudaLaunchConfig_t launch_config(dim3 grid, cudaLaunchAttribute& cluster, cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = T::kSharedBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return config;
}

template <typename T>
cudaError_t find_places(ClusterPlaces& places) {
  constexpr int kAloneBytes = std::max(T::kSharedBytes, T::kAloneBytes);
  cudaError_t status = cudaFuncSetAttribute(
      pack24_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kAloneBytes);
  for (int ctas = 1; ctas <= kLargestCluster && status == cudaSuccess; ++ctas) {
    cudaLaunchAttribute cluster = cluster_of(ctas);
    const dim3 grid(static_cast<unsigned>(ctas));
    cudaLaunchConfig_t config = launch_config<T>(grid, cluster, nullptr);
    status = cudaOccupancyMaxActiveClusters(&places.at_once[ctas], pack24_kernel<T>, &config);
    if (status != cudaSuccess) break;
    config.dynamicSmemBytes = kAloneBytes;
    status = cudaOccupancyMaxActiveClusters(&places.alone[ctas], pack24_kernel<T>, &config);
  }
  if (status == cudaSuccess && places.alone[1] == 0) status = cudaErrorInvalidConfiguration;
  return status;
}

/// The places for clusters of a kernel on the current device, found at its first launch there,
/// which also lets the kernel have its shared memory.
template <typename T>
cudaError_t places_of(const ClusterPlaces*& places) {
  struct Device {
    std::once_flag once;
    cudaError_t status = cudaSuccess;
    ClusterPlaces places;
  };
  static Device devices[kMostDevices];
  int index = 0;
  const cudaError_t status = cudaGetDevice(&index);
  if (status != cudaSuccess) return status;
  if (index >= kMostDevices) return cudaErrorInvalidDevice;
  Device& device = devices[index];
  std::call_once(device.once, [&] { device.status = find_places<T>(device.places); });
  places = &device.places;
  return device.status;
}

/// Blocks of tokens, steps along the channels of each, and passes for columns of H.
template <typename T>
struct Extent {
  int blocks, steps, passes;

  explicit Extent(const Params& params)
      : blocks(static_cast<int>(ceil_div(params.tokens, kTileTokens))),
        steps(static_cast<int>(ceil_div(params.tiles, T::kStepTiles))),
        passes(T::kRank == 0 ? 1 : static_cast<int>(ceil_div(params.rank, T::kRank))) {}
};

/// CTAs with work of their own in a launch of runs, in all its passes: what the workspace has room
/// for.
template <typename T>
int most_ctas(const ClusterPlaces& places, const Params& params) {
  static_assert(T::kPartVectors * sizeof(float4) == Workspace::part_bytes(T::kRank));
  static_assert(T::kCtasPerSm * Workspace::part_bytes(T::kRank) <=
                Workspace::kMostCtasPerSm * Workspace::part_bytes(T::kRank > 0 ? 64 : 0));
  return std::min(places.at_once[1], T::kCtasPerSm * params.multiprocessors);
}

template <typename T>
cudaError_t launch_kernel(const Params& params, cudaStream_t stream) {
  const ClusterPlaces* places = nullptr;
  cudaError_t status = places_of<T>(places);
  if (status != cudaSuccess) return status;
  TensorMaps maps{};
  status = make_tensor_maps<T>(params, maps);
  if (status != cudaSuccess) return status;
  const auto [blocks, steps, passes] = Extent<T>(params);
  const int cluster = T::kRuns ? 1 : choose_cluster(*places, blocks, steps);
  const int most = most_ctas<T>(*places, params) / passes;
  if (T::kRuns && most == 0) return cudaErrorInvalidConfiguration;
  const int ctas = T::kRuns ? choose_ctas(most, blocks, steps) : blocks * cluster;
  const Workspace workspace(params.workspace, params.multiprocessors);
  const Sharing sharing{.runs = Runs(blocks, steps, ctas),
                        .arrivals = workspace.arrivals(),
                        .parts = static_cast<float4*>(workspace.parts())};
  const dim3 grid(static_cast<unsigned>(ctas), static_cast<unsigned>(passes));
  cudaLaunchAttribute attribute = cluster_of(cluster);
  const cudaLaunchConfig_t config = launch_config<T>(grid, attribute, stream);
  return cudaLaunchKernelEx(&config, pack24_kernel<T>, params, sharing, maps);
}

/// The moments of a norm are added up by a cluster. Where exponentials take the time, runs are
/// faster. Without a producer they pay only where they fill the GPU better and end with a block:
/// clusters add up sooner, and those that leave a fifth of the GPU idle still keep memory busy.
template <typename Element, int kProducer, int kRank, int kTransform>
cudaError_t launch_sharing(const Params& params, cudaStream_t stream) {
  using Clusters = Traits<Element, kProducer, kRank, kTransform, false>;
  using WithRuns = Traits<Element, kProducer, kRank, kTransform, true>;
  if constexpr (Clusters::kMaybeNorm || (!Clusters::kProduces && kTransform > 0)) {
    return launch_kernel<Clusters>(params, stream);
  } else if constexpr (Clusters::kProduces) {
    return launch_kernel<WithRuns>(params, stream);
  } else {
    const ClusterPlaces* places = nullptr;
    const cudaError_t status = places_of<Clusters>(places);
    if (status != cudaSuccess) return status;
    const auto [blocks, steps, passes] = Extent<Clusters>(params);
    const double by_runs = filled_by_equal_runs(params.multiprocessors, blocks, steps);
    const bool runs_pay = by_runs > filled_by_clusters(*places, blocks, steps) + kWorthRuns;
    return passes == 1 && runs_pay ? launch_kernel<WithRuns>(params, stream)
                                   : launch_kernel<Clusters>(params, stream);
  }
}

template <typename Element, int kProducer, int kTransform>
cudaError_t launch_rank(const Params& params, cudaStream_t stream) {
  if (params.rank == 0) return launch_sharing<Element, kProducer, 0, kTransform>(params, stream);
  // Beside a transform of two tiles 128 columns find no room: further CTAs do them.
  if constexpr (kTransform < 2) {
    if (params.rank > 64) {
      return launch_sharing<Element, kProducer, 128, kTransform>(params, stream);
    }
  }
  return launch_sharing<Element, kProducer, 64, kTransform>(params, stream);
}

/// The norms look at run time which of them they are, and so do, with a transform, they and GELU:
/// fewer kernels to build.
template <typename Element, int kTransform>
cudaError_t launch_producer(const Params& params, cudaStream_t stream) {
  constexpr int kNone = static_cast<int>(gpu::Producer::none);
  constexpr int kGelu = static_cast<int>(gpu::Producer::gelu);
  constexpr int kSwiglu = static_cast<int>(gpu::Producer::swiglu);
  switch (params.producer) {
    case gpu::Producer::none:
      return launch_rank<Element, kNone, kTransform>(params, stream);
    case gpu::Producer::gelu:
      return launch_rank < Element, kTransform == 0 ? kGelu : kAnyProducer,
             kTransform > (params, stream);
    case gpu::Producer::swiglu:
      return launch_rank<Element, kSwiglu, kTransform>(params, stream);
    case gpu::Producer::layer_norm:
    case gpu::Producer::rms_norm:
      return launch_rank<Element, kAnyProducer, kTransform>(params, stream);
  }
  return cudaErrorInvalidValue;
}

template <typename Element>
cudaError_t launch(const Params& params, cudaStream_t stream) {
  if (params.transform == nullptr) return launch_producer<Element, 0>(params, stream);
  return params.transform_block == kPackedTileChannels
             ? launch_producer<Element, 1>(params, stream)
             : launch_producer<Element, 2>(params, stream);
}

}  // namespace rtlynx::pack::sm90
