// SPDX-License-Identifier: Apache-2.0
#include "benchmark/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rtlynx::benchmark {
namespace {

using ::testing::ElementsAre;

Options parse(std::vector<std::string> arguments) {
  CLI::App app;
  Options options;
  add_options(app, options);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  app.parse(arguments);
  return options;
}

TEST(OptionsTest, DefaultsAreTheWholeBench) {
  const Options options = parse({});
  EXPECT_EQ(options.shapes(), shapes_of("bench"));
  EXPECT_EQ(options.element(), DType::bf16);
  EXPECT_EQ(options.burst_repeats(), 21);
  EXPECT_EQ(options.sustained_ms, 40);
  for (const char* section : {"gemm", "pack", "linear", "fused"}) {
    EXPECT_TRUE(options.wants(section)) << section;
  }
}

TEST(OptionsTest, SetsAndShapesAddUpWithoutDoubles) {
  const Options options = parse(
      {"--shapes", "flux,bench", "--shape", "16,8,64", "--shape", "16,8,64", "--shape", "32,8,64"});
  const std::vector<Shape> shapes = options.shapes();
  std::vector<Shape> wanted = shapes_of("bench");  // FLUX.1 is its beginning
  wanted.push_back(parse_shape("16,8,64"));
  wanted.push_back(parse_shape("32,8,64"));
  EXPECT_EQ(shapes, wanted);
}

TEST(OptionsTest, OwnShapesStandAlone) {
  EXPECT_THAT(parse({"--shape", "16,8,64"}).shapes(), ElementsAre(parse_shape("16,8,64")));
}

TEST(OptionsTest, ChoicesArrive) {
  const Options options = parse(
      {"--what", "gemm,linear",   "--dtype",   "f16",     "--repeats", "5",      "--sustained-ms",
       "10.5",   "--config",      "128x256c1", "--sweep", "--seed",    "7",      "--library-dir",
       "/",      "--library-dir", "/tmp",      "--json",  "a",         "--plot", "b"});
  EXPECT_THAT(options.what, ElementsAre("gemm", "linear"));
  EXPECT_FALSE(options.wants("pack"));
  EXPECT_EQ(options.element(), DType::f16);
  EXPECT_EQ(options.burst_repeats(), 5);
  EXPECT_EQ(options.sustained_ms, 10.5);
  EXPECT_EQ(options.config, "128x256c1");
  EXPECT_TRUE(options.sweep);
  EXPECT_EQ(options.seed, 7u);
  EXPECT_THAT(options.library_folders, ElementsAre("/", "/tmp"));
  EXPECT_EQ(options.json, "a");
  EXPECT_EQ(options.plot, "b");
}

TEST(OptionsTest, WhatCannotBeMeantIsRefused) {
  const std::vector<std::vector<std::string>> refused = {
      {"--shapes", "sdxl"},      {"--shapes", "flux,sdxl"}, {"--shape", "1,2"},
      {"--shape", "1,8,16,"},    {"--dtype", "f32"},        {"--repeats", "0"},
      {"--repeats", "x"},        {"--sustained-ms", "0"},   {"--config", "fast"},
      {"--what", "speed"},       {"--seed", "-1"},          {"--library-dir", "/no/such/folder"},
      {"--sustained-ms", "1e9"}, {"--no-such-option"},      {"stray"},
  };
  for (const std::vector<std::string>& arguments : refused) {
    EXPECT_THROW(parse(arguments), CLI::ParseError) << arguments.back();
  }
}

TEST(OptionsTest, ARefusalSaysWhatIsRequired) {
  try {
    parse({"--shape", "1,12,16"});
    FAIL();
  } catch (const CLI::ParseError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("N a multiple of 8"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("1,12,16"));
  }
}

TEST(OptionsTest, GpuOnlyOptionsExist) {
  CLI::App app;
  Options options;
  add_options(app, options);
  for (const std::string& name : gpu_only_options()) {
    EXPECT_NE(app.get_option_no_throw(name), nullptr) << name;
  }
}

}  // namespace
}  // namespace rtlynx::benchmark
