// SPDX-License-Identifier: Apache-2.0
#include "benchmark/config_name.h"

#include <fmt/format.h>

#include <regex>

#include "base/error.h"
#include "kernels/gemm/select.h"

namespace rtlynx::benchmark {

using gpu::Gemm24Config;

std::string name_of(const Gemm24Config& config) {
  if (config.path != Gemm24Config::Path::sm90) return gpu::name_of(config.path);
  return fmt::format("{}x{}c{}g{}{}", config.tile_tokens, config.tile_outputs, config.cluster,
                     config.group_tiles, config.stream_k ? "s" : "");
}

Gemm24Config parse_config(const std::string& name) {
  if (name == "dense") return {};
  if (name == "sm80") return {.path = Gemm24Config::Path::sm80};
  static const std::regex pattern(R"((\d{3})x(\d{3})(?:c([12]))?(?:g([1-9]\d?))?(s)?)");
  std::smatch part;
  if (std::regex_match(name, part, pattern)) {
    Gemm24Config config{.path = Gemm24Config::Path::sm90,
                        .tile_tokens = std::stoi(part[1]),
                        .tile_outputs = std::stoi(part[2])};
    if (part[3].matched) config.cluster = std::stoi(part[3]);
    if (part[4].matched) config.group_tiles = std::stoi(part[4]);
    config.stream_k = part[5].matched;
    if (gpu::is_sm90_config(config)) return config;
  }
  throw UsageError(
      fmt::format("required dense, sm80, or the tile {0}x{1} with c1 or c2, g1 to g99 and s for "
                  "stream-K behind "
                  "it, as in {0}x{1}c2g8s, got {2}",
                  gpu::kSm90TileTokens, gpu::kSm90TileOutputs, name));
}

std::vector<Gemm24Config> sweep_configs(const gpu::Gemm24Shape& shape,
                                        const gpu::DeviceTraits& device) {
  std::vector<Gemm24Config> configs;
  for (const int cluster : {1, 2}) {
    const int ctas = gpu::sm90_ctas(device.multiprocessors, cluster);
    const bool is_cut = gpu::stream_k_slices(shape, ctas) > 1;
    for (const int group : {8, 12, 16, 18, 32}) {
      for (const bool stream_k : {false, true}) {
        if (stream_k && !is_cut) continue;
        configs.push_back({.path = Gemm24Config::Path::sm90,
                           .tile_tokens = gpu::kSm90TileTokens,
                           .tile_outputs = gpu::kSm90TileOutputs,
                           .cluster = cluster,
                           .group_tiles = group,
                           .stream_k = stream_k});
      }
    }
  }
  return configs;
}

}  // namespace rtlynx::benchmark
