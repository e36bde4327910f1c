// SPDX-License-Identifier: Apache-2.0
#include "benchmark/tuning.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "benchmark/synthetic_run.h"

namespace rtlynx::benchmark {
namespace {

constexpr gpu::DeviceTraits kDevice{
    .compute_capability = 90, .multiprocessors = 132, .shared_bytes = 232448};

gpu::Gemm24Config config_of(int group) {
  return {.path = gpu::Gemm24Config::Path::sm90,
          .tile_tokens = 128,
          .tile_outputs = 256,
          .cluster = 2,
          .group_tiles = group};
}

RunResult swept_run() {
  RunResult run =
      testing::synthetic_run({{.name = "swept", .tokens = 4096, .outputs = 512, .channels = 64},
                              {.name = "not", .tokens = 64, .outputs = 512, .channels = 64}});
  run.gpu = "GPU";
  run.device = kDevice;
  run.shapes[0].sweep = {{config_of(8), testing::timed("a", 20, 10)},
                         {config_of(16), testing::timed("b", 15, 30)},
                         {config_of(18), {"c", std::nullopt, "wrong"}}};
  return run;
}

TEST(Tuning, TheFastestBurstOfASweptShapeIsKept) {
  gpu::TuneCache cache;
  insert_fastest(swept_run(), cache);
  EXPECT_EQ(cache.size(), 1u);
  const auto row = cache.lookup("GPU", kDevice, {.tokens = 4096, .outputs = 512, .channels = 64});
  ASSERT_TRUE(row.has_value());
  EXPECT_EQ(row->config, config_of(16));
  EXPECT_EQ(row->microseconds, 15);
}

TEST(Tuning, ALaterSweepReplacesARow) {
  gpu::TuneCache cache;
  RunResult run = swept_run();
  insert_fastest(run, cache);
  run.shapes[0].sweep = {{config_of(4), testing::timed("d", 17, 17)}};
  insert_fastest(run, cache);
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(cache.lookup("GPU", kDevice, {.tokens = 4096, .outputs = 512, .channels = 64})->config,
            config_of(4));
}

TEST(Tuning, AShapeWithoutTimesIsLeftOut) {
  gpu::TuneCache cache;
  RunResult run = swept_run();
  run.shapes[0].sweep = {{config_of(18), {"c", std::nullopt, "wrong"}}};
  insert_fastest(run, cache);
  EXPECT_EQ(cache.size(), 0u);
}

// Each loads, adds and saves the whole file.
TEST(Tuning, ProcessesThatShareAFileKeepEachOthersRows) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / "rtlynx-tuning-test";
  std::filesystem::remove_all(folder);
  const std::filesystem::path file = folder / "new" / "tune.txt";
  constexpr int kAtOnce = 8;
  std::vector<std::thread> others;
  for (int i = 0; i < kAtOnce; ++i) {
    others.emplace_back([&file, i] {
      RunResult run = swept_run();
      run.shapes[0].shape.tokens = 4096 + 128 * i;
      keep_fastest(run, file);
    });
  }
  for (std::thread& other : others) other.join();
  EXPECT_EQ(gpu::TuneCache::load(file).size(), std::size_t{kAtOnce});
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace rtlynx::benchmark
