// SPDX-License-Identifier: Apache-2.0
#include "benchmark/shapes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/error.h"

namespace rtlynx::benchmark {
namespace {

TEST(ShapesTest, BenchIsTheThreeModels) {
  const std::vector<Shape> shapes = shapes_of("bench");
  ASSERT_EQ(shapes.size(), 14u);
  std::map<std::string, int> layers;
  for (const Shape& shape : shapes) {
    EXPECT_TRUE(shape.in_mean) << shape.name;
    layers[shape.model] += shape.count;
  }
  EXPECT_EQ(layers, (std::map<std::string, int>{
                        {"FLUX.1-dev", 152}, {"Qwen-Image", 240}, {"Z-Image", 120}}));
  EXPECT_EQ(shapes_of("flux").size(), 6u);
  EXPECT_EQ(shapes_of("qwen-image").size(), 4u);
  EXPECT_EQ(shapes_of("z-image").size(), 4u);
}

TEST(ShapesTest, TheOthersAreOutsideTheMean) {
  EXPECT_EQ(shapes_of("paper").size(), 3u);
  EXPECT_EQ(shapes_of("text").size(), 9u);
  for (const char* set : {"paper", "text"}) {
    for (const Shape& shape : shapes_of(set)) EXPECT_FALSE(shape.in_mean) << shape.name;
  }
}

TEST(ShapesTest, AllAreDistinctAndCanBePacked) {
  std::set<std::string> names;
  std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t>> sizes;
  for (const char* set : {"bench", "paper", "text"}) {
    for (const Shape& shape : shapes_of(set)) {
      EXPECT_TRUE(names.insert(shape.name).second) << shape.name;
      EXPECT_TRUE(sizes.insert({shape.tokens, shape.outputs, shape.channels}).second) << shape.name;
      EXPECT_EQ(shape.channels % 64, 0) << shape.name;
      EXPECT_EQ(shape.outputs % 64, 0) << shape.name;
    }
  }
  for (const std::string& set : shape_set_names()) EXPECT_FALSE(shapes_of(set).empty()) << set;
}

TEST(ShapesTest, OneTokenCountIsRagged) {
  const std::vector<Shape> shapes = shapes_of("qwen-image");
  EXPECT_TRUE(std::all_of(shapes.begin(), shapes.end(),
                          [](const Shape& shape) { return shape.tokens == 6889; }));
}

TEST(ShapesTest, UnknownSetIsRefused) { EXPECT_THROW(shapes_of("sdxl"), UsageError); }

TEST(ShapesTest, ParsesAShape) {
  const Shape shape = parse_shape("6889,8,16");
  EXPECT_EQ(std::tie(shape.tokens, shape.outputs, shape.channels), std::tuple(6889, 8, 16));
  EXPECT_FALSE(shape.in_mean);
  EXPECT_EQ(shape.model, "");
}

TEST(ShapesTest, MalformedShapesAreRefused) {
  for (const char* text :
       {"", "1", "1,8", "1,8,", "1,8,16,", "1,8,16,2", "0,8,16", "1,-8,16", "1,12,16", "1,8,24",
        "a,8,16", "1;8;16", " 1,8,16", "1,8,16 ", "2097152,8,16", "99999999999999999999,8,16"}) {
    EXPECT_THROW(parse_shape(text), UsageError) << text;
  }
}

TEST(ShapesTest, SizesAreThreeWholeNumbersOfAnySize) {
  EXPECT_EQ(parse_sizes("1,12,4194304"), (std::array<std::int64_t, 3>{1, 12, 4194304}));
  for (const char* text : {"", "1,8", "1,8,", "1,8,16,", "1,0,16", "1,8,x", "1,8,16 "}) {
    EXPECT_EQ(parse_sizes(text), std::nullopt) << text;
  }
}

TEST(ShapesTest, ProducerDependsOnThePlaceInTheModel) {
  std::map<gpu::Producer, int> count;
  for (const Shape& shape : shapes_of("bench")) ++count[producer_of(shape)];
  EXPECT_EQ(count[gpu::Producer::layer_norm], 10);
  EXPECT_EQ(count[gpu::Producer::gelu], 3);
  EXPECT_EQ(count[gpu::Producer::swiglu], 1);
}

}  // namespace
}  // namespace rtlynx::benchmark
