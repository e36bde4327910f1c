// SPDX-License-Identifier: Apache-2.0
#include "benchmark/config_name.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"

namespace rtlynx::benchmark {
namespace {

using Path = gpu::Gemm24Config::Path;

constexpr gpu::DeviceTraits kDevice{
    .compute_capability = 90, .multiprocessors = 132, .shared_bytes = 232448};
gpu::Gemm24Shape tiles(std::int64_t down, std::int64_t across) {
  return {.tokens = 128 * down, .outputs = 256 * across, .channels = 3072};
}

TEST(ConfigNameTest, NamesComeBackAsTheConfiguration) {
  std::set<std::string> names;
  for (const gpu::Gemm24Config& config : sweep_configs(tiles(33, 9), kDevice)) {
    EXPECT_EQ(parse_config(name_of(config)), config) << name_of(config);
    EXPECT_TRUE(names.insert(name_of(config)).second) << name_of(config);
  }
  EXPECT_EQ(names.size(), 20u);
  EXPECT_EQ(parse_config("dense").path, Path::dense);
  EXPECT_EQ(parse_config("sm80").path, Path::sm80);
}

TEST(ConfigNameTest, StreamKIsSweptOnlyWhereItCuts) {
  // Full waves of 132, and a last one that leaves no two CTAs for each of its tiles.
  for (const gpu::Gemm24Shape& shape : {tiles(33, 8), tiles(33, 11)}) {
    const auto configs = sweep_configs(shape, kDevice);
    EXPECT_EQ(configs.size(), 10u);
    for (const gpu::Gemm24Config& config : configs) EXPECT_FALSE(config.stream_k);
  }
}

TEST(ConfigNameTest, PartsMayBeLeftOut) {
  const gpu::Gemm24Config config = parse_config("128x256c2");
  EXPECT_EQ(config.path, Path::sm90);
  EXPECT_EQ(config.tile_tokens, 128);
  EXPECT_EQ(config.tile_outputs, 256);
  EXPECT_EQ(config.cluster, 2);
  EXPECT_EQ(config.group_tiles, gpu::Gemm24Config{}.group_tiles);
  EXPECT_FALSE(config.stream_k);
  EXPECT_TRUE(parse_config("128x256s").stream_k);
}

TEST(ConfigNameTest, OthersAreRefused) {
  for (const char* name : {"", "sm90", "128x128", "256x192", "128x256c3", "128x256g0",
                           "128x256g100", "128x256sc1", "128x256 ", "1024x256"}) {
    EXPECT_THROW(parse_config(name), UsageError) << name;
  }
}

}  // namespace
}  // namespace rtlynx::benchmark
