// SPDX-License-Identifier: Apache-2.0
#include "benchmark/shapes.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>

#include "base/error.h"
#include "models/flux/groups.h"
#include "rtlynx/limits.h"

namespace rtlynx::benchmark {
namespace {

const Shape& named(const std::vector<Shape>& shapes, const std::string& name) {
  for (const Shape& shape : shapes) {
    if (shape.name == name) return shape;
  }
  throw Error("no shape " + name);
}

TEST(ShapesTest, BenchIsTheThreeModels) {
  std::vector<Shape> all = shapes_of("flux");
  for (const char* set : {"qwen-image", "z-image"}) {
    for (Shape& shape : shapes_of(set)) all.push_back(std::move(shape));
  }
  EXPECT_EQ(shapes_of("bench"), all);
}

// The groups of a model are counted once, together.
TEST(ShapesTest, TheGroupsOfFluxAreAllThere) {
  std::int64_t groups = 0, layers = 0;
  for (const LayerGroup& group : flux_groups({})) {
    ++groups;
    layers += static_cast<std::int64_t>(group.layers.size());
  }
  std::int64_t stacked = 0, single_weights = 0, others = 0;
  for (const Shape& shape : shapes_of("flux")) {
    const auto weights = static_cast<std::int64_t>(shape.outputs.size());
    const bool is_group = shape.in_mean || shape.in_pass || shape.name.ends_with("to_add_out");
    (is_group ? stacked : others) += shape.count;
    if (is_group && weights == 1) single_weights += shape.count;
  }
  EXPECT_EQ(stacked, groups);
  // One product a weight: the layers of groups of several, and the groups of one.
  EXPECT_EQ(others + single_weights, layers);
}

TEST(ShapesTest, FluxRunsItsGroups) {
  const std::vector<Shape> shapes = shapes_of("flux");
  const Shape& qkv = named(shapes, "FLUX.1-dev attn.to_qkv");
  EXPECT_EQ(qkv.tokens, 4096);
  EXPECT_EQ(qkv.outputs, (std::vector<std::int64_t>{3072, 3072, 3072}));
  EXPECT_EQ(qkv.all_outputs(), 9216);
  EXPECT_EQ(qkv.count, 19);
  const Shape& q = named(shapes, "FLUX.1-dev attn.to_q");
  EXPECT_EQ(q.outputs, std::vector<std::int64_t>{3072});
  EXPECT_EQ(q.count, 57);
  EXPECT_FALSE(q.in_mean || q.in_pass);
  const Shape& single = named(shapes, "FLUX.1-dev single to_qkv_mlp");
  EXPECT_EQ(single.tokens, 4608);
  EXPECT_EQ(single.outputs, (std::vector<std::int64_t>{3072, 3072, 3072, 12288}));
  EXPECT_EQ(single.count, 38);
  EXPECT_EQ(named(shapes, "FLUX.1-dev single attn.to_q").count, 3 * 38);
  EXPECT_EQ(named(shapes, "FLUX.1-dev single proj_mlp").count, 38);
  EXPECT_EQ(named(shapes, "FLUX.1-dev attn.to_added_qkv").tokens, 512);
}

TEST(ShapesTest, QwenImageIsItsBlocks) {
  const std::vector<Shape> shapes = shapes_of("qwen-image");
  const Shape& qkv = named(shapes, "Qwen-Image attn.to_qkv");
  EXPECT_EQ(qkv.tokens, 6889);  // a multiple of nothing
  EXPECT_EQ(qkv.outputs, (std::vector<std::int64_t>{3072, 3072, 3072}));
  EXPECT_EQ(qkv.count, 60);
  EXPECT_EQ(named(shapes, "Qwen-Image img_mlp.net.2").channels, 12288);
  EXPECT_FALSE(named(shapes, "Qwen-Image attn.to_out.0").in_pass);
  EXPECT_EQ(named(shapes, "Qwen-Image attn.to_added_qkv").tokens, 64);
}

TEST(ShapesTest, ZImageIsItsLayers) {
  const std::vector<Shape> shapes = shapes_of("z-image");
  const Shape& qkv = named(shapes, "Z-Image attention.to_qkv");
  EXPECT_EQ(qkv.tokens, 4224);
  EXPECT_EQ(qkv.outputs, (std::vector<std::int64_t>{3840, 3840, 3840}));
  EXPECT_EQ(qkv.count, 30);
  EXPECT_EQ(named(shapes, "Z-Image attention.to_q").count, 90);
  const Shape& gate_up = named(shapes, "Z-Image feed_forward.w13");
  EXPECT_EQ(gate_up.outputs, (std::vector<std::int64_t>{10240, 10240}));
  EXPECT_FALSE(gate_up.in_pass);
  EXPECT_EQ(named(shapes, "Z-Image feed_forward.w2").channels, 10240);
}

TEST(ShapesTest, ThePassIsWhatTheRecipeSparsifies) {
  std::map<std::string, int> groups;
  for (const Shape& shape : shapes_of("bench")) {
    if (shape.in_pass) groups[shape.model] += shape.count;
    if (shape.name.find("out") != std::string::npos) {
      EXPECT_FALSE(shape.in_pass) << shape.name;
    }
  }
  // qkv, up and down of both streams, in 19 blocks of FLUX.1 and 60 of Qwen-Image; of FLUX.1 also
  // q, k, v and up of 38.
  EXPECT_EQ(groups, (std::map<std::string, int>{
                        {"FLUX.1-dev", 6 * 19 + 38}, {"Qwen-Image", 6 * 60}, {"Z-Image", 60}}));
}

TEST(ShapesTest, TheMeanIsOverGroupsOfImageTokens) {
  int in_mean = 0;
  for (const Shape& shape : shapes_of("bench")) {
    if (!shape.in_mean) continue;
    ++in_mean;
    EXPECT_GE(shape.tokens, 4096) << shape.name;
  }
  EXPECT_EQ(in_mean, 14);
  for (const char* set : {"paper", "text"}) {
    for (const Shape& shape : shapes_of(set)) {
      EXPECT_FALSE(shape.in_mean || shape.in_pass) << shape.name;
    }
  }
  EXPECT_EQ(shapes_of("paper").size(), 3u);
}

TEST(ShapesTest, TextIsTheTextStreamOfFlux) {
  const std::vector<Shape> shapes = shapes_of("text");
  EXPECT_EQ(shapes.size(), 15u);  // 4 groups and one weight alone, for three lengths
  EXPECT_EQ(named(shapes, "text 64 attn.to_added_qkv").tokens, 64);
  EXPECT_EQ(named(shapes, "text 512 ff_context.net.2").channels, 12288);
}

TEST(ShapesTest, AllAreDistinctAndCanBePacked) {
  std::set<std::string> names;
  for (const char* set : {"bench", "paper", "text"}) {
    for (const Shape& shape : shapes_of(set)) {
      EXPECT_TRUE(names.insert(shape.name).second) << shape.name;
      EXPECT_EQ(shape.channels % 64, 0) << shape.name;
      EXPECT_LE(shape.outputs.size(), static_cast<std::size_t>(kMaxProducts)) << shape.name;
      for (const std::int64_t outputs : shape.outputs) EXPECT_EQ(outputs % 64, 0) << shape.name;
    }
  }
  for (const std::string& set : shape_set_names()) EXPECT_FALSE(shapes_of(set).empty()) << set;
}

TEST(ShapesTest, UnknownSetIsRefused) { EXPECT_THROW(shapes_of("sdxl"), UsageError); }

TEST(ShapesTest, ParsesAShape) {
  const Shape shape = parse_shape("6889,8,16");
  EXPECT_EQ(std::tie(shape.tokens, shape.channels), std::tuple(6889, 16));
  EXPECT_EQ(shape.outputs, std::vector<std::int64_t>{8});
  EXPECT_FALSE(shape.in_mean);
  EXPECT_EQ(shape.model, "");
}

TEST(ShapesTest, ParsesWeightsThatReadOneInput) {
  EXPECT_EQ(parse_shape("64,8+16+24,16").outputs, (std::vector<std::int64_t>{8, 16, 24}));
}

TEST(ShapesTest, MalformedShapesAreRefused) {
  for (const char* text : {"",
                           "1",
                           "1,8",
                           "1,8,",
                           "1,8,16,",
                           "1,8,16,2",
                           "0,8,16",
                           "1,-8,16",
                           "1,12,16",
                           "1,8,24",
                           "a,8,16",
                           "1;8;16",
                           " 1,8,16",
                           "1,8,16 ",
                           "2097152,8,16",
                           "64,8+,16",
                           "64,+8,16",
                           "64,8+12,16",
                           "64+64,8,16",
                           "64,8+8+8+8+8,16",
                           "99999999999999999999,8,16"}) {
    EXPECT_THROW(parse_shape(text), UsageError) << text;
  }
}

TEST(ShapesTest, SizesAreThreeWholeNumbersOfAnySize) {
  EXPECT_EQ(parse_sizes("1,12,4194304"), (std::array<std::int64_t, 3>{1, 12, 4194304}));
  for (const char* text : {"", "1,8", "1,8,", "1,8,16,", "1,0,16", "1,8,x", "1,8,16 "}) {
    EXPECT_EQ(parse_sizes(text), std::nullopt) << text;
  }
}

TEST(ShapesTest, AProducerOfAllChannelsCanBeFused) {
  const std::vector<Shape> shapes = shapes_of("bench");
  EXPECT_EQ(named(shapes, "FLUX.1-dev attn.to_qkv").producer, Producer::norm);
  EXPECT_EQ(named(shapes, "FLUX.1-dev attn.to_out.0").producer, Producer::none);
  EXPECT_EQ(named(shapes, "FLUX.1-dev ff.net.2").producer, Producer::gelu);
  // Attention and GELU, one beside the other.
  EXPECT_EQ(named(shapes, "FLUX.1-dev single proj_out").producer, Producer::none);
  EXPECT_EQ(named(shapes, "Z-Image feed_forward.w2").producer, Producer::swiglu);
}

}  // namespace
}  // namespace rtlynx::benchmark
