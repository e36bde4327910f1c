// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <mutex>
#include <span>

#include "kernels/device/launch.h"
#include "kernels/device/tensor_map.h"
#include "kernels/pack/pack24.h"
#include "kernels/pack/sharing.h"
#include "kernels/pack/sm90/kernel.cuh"
#include "kernels/pack/workspace.h"

/// The instances of the Hopper pack kernel, of one element type and producer in each file.
namespace rtlynx::pack::sm90 {

// The share of the GPU that runs have to fill beyond what clusters do.
inline constexpr double kWorthRuns = 0.05;

/// [rows, channels] of 16-bit elements in boxes of 64 channels.
template <typename Element>
device::TensorBox matrix_box(const void* data, std::int64_t rows, std::int64_t channels,
                             std::int64_t row_stride, int box_rows) {
  return {.data = data,
          .dtype = std::is_same_v<Element, Bf16> ? DType::bf16 : DType::f16,
          .axes = {{{.size = channels, .box = kPackedTileChannels},
                    {.size = rows, .stride = row_stride, .box = box_rows}}}};
}

/// The transform [K / block, block outputs, block inputs] in boxes [64 outputs, 64 inputs]. Row
/// 8 j + 2 t + p of a box, whose products lane t of a quad gets, is output 16 t + 2 j + p: so a
/// lane gets 16 neighbours. As axes: input, p, t, j, and the 64 outputs.
template <typename Element>
device::TensorBox transform_box(const Params& params) {
  const std::int64_t block = params.transform_block;
  device::TensorBox box = matrix_box<Element>(params.transform, 2, block, block, /*box_rows=*/2);
  box.count = 5;
  box.axes[2] = {.size = 4, .stride = 16 * block, .box = 4};
  box.axes[3] = {.size = 8, .stride = 2 * block, .box = 8};
  box.axes[4] = {.size = params.channels / kPackedTileChannels,
                 .stride = kPackedTileChannels * block};
  return box;
}

template <typename T>
cudaError_t make_tensor_maps(const Params& params, TensorMaps& maps) {
  using Element = typename T::Element;
  const auto tokens = [&](const void* data, std::int64_t channels, std::int64_t row_stride) {
    return matrix_box<Element>(data, params.tokens, channels, row_stride, kTileTokens);
  };
  cudaError_t status = device::make_tensor_map(
      tokens(params.x, std::min(params.tail_start, params.channels), params.x_stride), maps.x);
  if (status == cudaSuccess && T::kSwiglu) {
    status =
        device::make_tensor_map(tokens(params.up, params.channels, params.up_stride), maps.other);
  }
  if (status == cudaSuccess && params.tail != nullptr) {
    const int channels = params.channels - params.tail_start;
    status = device::make_tensor_map(tokens(params.tail, channels, params.tail_stride), maps.other);
  }
  if (status == cudaSuccess && T::kRank > 0) {
    status =
        device::make_tensor_map(matrix_box<Element>(params.down, params.low_columns,
                                                    params.channels, params.down_stride, T::kRank),
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

inline cudaLaunchAttribute starts_early() {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return attribute;
}

template <typename T>
cudaLaunchConfig_t launch_config(dim3 grid, std::span<cudaLaunchAttribute> attributes,
                                 cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = T::kSharedBytes;
  config.stream = stream;
  config.attrs = attributes.data();
  config.numAttrs = static_cast<unsigned>(attributes.size());
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
    cudaLaunchConfig_t config = launch_config<T>(grid, {&cluster, 1}, nullptr);
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
cudaError_t places_of(int index, const ClusterPlaces*& places) {
  struct Device {
    std::once_flag once;
    cudaError_t status = cudaSuccess;
    ClusterPlaces places;
  };
  static Device devices[device::kMostDevices];
  if (index >= device::kMostDevices) return cudaErrorInvalidDevice;
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
        passes(T::kRank == 0 ? 1 : static_cast<int>(ceil_div(params.low_columns, T::kRank))) {}
};

/// CTAs with work of their own in a launch of runs, in all its passes: what the workspace has room
/// for.
template <typename T>
int most_ctas(const ClusterPlaces& places, const gpu::DeviceTraits& device) {
  static_assert(T::kPartVectors * sizeof(float4) == Workspace::part_bytes(T::kRank));
  static_assert(!T::kRuns ||
                T::kCtasPerSm * Workspace::part_bytes(T::kRank) <=
                    Workspace::kMostCtasPerSm * Workspace::part_bytes(T::kRank > 0 ? 64 : 0));
  return std::min(places.at_once[1], T::kCtasPerSm * device.multiprocessors);
}

template <typename T>
cudaError_t launch_kernel(const Params& params, const Launch& launch) {
  const ClusterPlaces* places = nullptr;
  cudaError_t status = places_of<T>(launch.device.index, places);
  if (status != cudaSuccess) return status;
  TensorMaps maps{};
  status = make_tensor_maps<T>(params, maps);
  if (status != cudaSuccess) return status;
  const auto [blocks, steps, passes] = Extent<T>(params);
  const int cluster = T::kRuns ? 1 : choose_cluster(*places, blocks, steps);
  const int most = most_ctas<T>(*places, launch.device) / passes;
  if (T::kRuns && most == 0) return cudaErrorInvalidConfiguration;
  const int ctas = T::kRuns ? choose_ctas(most, blocks, steps) : blocks * cluster;
  const Workspace workspace(launch.workspace, launch.device.multiprocessors);
  const Sharing sharing{.runs = Runs(blocks, steps, ctas),
                        .arrivals = workspace.arrivals(),
                        .parts = static_cast<float4*>(workspace.parts())};
  const dim3 grid(static_cast<unsigned>(ctas), static_cast<unsigned>(passes));
  cudaLaunchAttribute attributes[] = {cluster_of(cluster), starts_early()};
  const cudaLaunchConfig_t config = launch_config<T>(grid, attributes, launch.stream);
  return cudaLaunchKernelEx(&config, pack24_kernel<T>, params, sharing, maps);
}

/// Where exponentials take the time, runs are faster; GELU beside a transform has no registers for
/// them. Plain inputs with little to add up take runs where these fill the GPU better and end with
/// a block. All others take clusters, which add up sooner.
template <typename Element, Producer kProducer, int kRank, int kTransform>
cudaError_t launch_sharing(const Params& params, const Launch& launch) {
  using Clusters = Traits<Element, kProducer, kRank, kTransform, false>;
  using WithRuns = Traits<Element, kProducer, kRank, kTransform, true>;
  constexpr bool kPlainGelu = kProducer == Producer::gelu && kTransform == 0;
  if constexpr (kPlainGelu || kProducer == Producer::swiglu) {
    return launch_kernel<WithRuns>(params, launch);
  } else if constexpr (kTransform > 0 || kRank > 64 || kProducer == Producer::norm) {
    return launch_kernel<Clusters>(params, launch);
  } else {
    const ClusterPlaces* places = nullptr;
    const cudaError_t status = places_of<Clusters>(launch.device.index, places);
    if (status != cudaSuccess) return status;
    const auto [blocks, steps, passes] = Extent<Clusters>(params);
    const double by_runs = filled_by_equal_runs(launch.device.multiprocessors, blocks, steps);
    const bool runs_pay = by_runs > filled_by_clusters(*places, blocks, steps) + kWorthRuns;
    return passes == 1 && runs_pay ? launch_kernel<WithRuns>(params, launch)
                                   : launch_kernel<Clusters>(params, launch);
  }
}

/// Columns of H in one pass: for more than one weight, whose input is a norm's or plain, up to 256.
/// Beside a transform of two tiles, or the exponentials, there is room for less.
template <typename Element, Producer kProducer, int kTransform>
cudaError_t launch_rank(const Params& params, const Launch& launch) {
  const int columns = params.low_columns;
  if (columns == 0) return launch_sharing<Element, kProducer, 0, kTransform>(params, launch);
  constexpr bool kManyReaders = kProducer == Producer::none || kProducer == Producer::norm;
  if constexpr (kTransform < 2) {
    if constexpr (kManyReaders) {
      if (columns > 192) return launch_sharing<Element, kProducer, 256, kTransform>(params, launch);
      if (columns > 128) return launch_sharing<Element, kProducer, 192, kTransform>(params, launch);
    }
    if (columns > 64) return launch_sharing<Element, kProducer, 128, kTransform>(params, launch);
  }
  return launch_sharing<Element, kProducer, 64, kTransform>(params, launch);
}

template <typename Element, Producer kProducer>
cudaError_t launch_transform(const Params& params, const Launch& launch) {
  if (params.transform == nullptr) return launch_rank<Element, kProducer, 0>(params, launch);
  return params.transform_block == kPackedTileChannels
             ? launch_rank<Element, kProducer, 1>(params, launch)
             : launch_rank<Element, kProducer, 2>(params, launch);
}

}  // namespace rtlynx::pack::sm90
