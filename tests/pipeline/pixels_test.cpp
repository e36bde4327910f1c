// SPDX-License-Identifier: Apache-2.0
#include "pipeline/pixels.h"

#include <gtest/gtest.h>

#include "refusal.h"

namespace rtlynx {
namespace {

TEST(Pixels, TokensHoldPatchesChannelFirst) {
  const torch::Tensor pixels = torch::arange(2 * 4 * 6).view({1, 2, 4, 6});
  const torch::Tensor tokens = tokens_from_pixels(pixels, 2);
  ASSERT_EQ(tokens.sizes(), (std::vector<std::int64_t>{1, 6, 8}));
  // Token 4 is row 1, column 1 of the grid: rows 2-3, columns 2-3 of both channels.
  const torch::Tensor wanted = torch::tensor({14, 15, 20, 21, 38, 39, 44, 45}, torch::kInt64);
  EXPECT_TRUE(tokens[0][4].equal(wanted)) << tokens[0][4];
  EXPECT_TRUE(pixels_from_tokens(tokens, 2, 4, 6).equal(pixels));
}

TEST(Pixels, PositionsRunAlongRows) {
  const torch::Tensor ids = image_position_ids(2, 3);
  EXPECT_TRUE(ids[4].equal(torch::tensor({0.0F, 1.0F, 1.0F})));
  EXPECT_EQ(ids.size(0), 6);
}

TEST(Pixels, BytesSurviveTheWayThereAndBack) {
  const torch::Tensor bytes = torch::arange(256, torch::kInt64).to(torch::kUInt8);
  const torch::Tensor picture = bytes.view({1, 16, 16, 1}).repeat({1, 1, 1, 3});
  const auto images = images_from_pixels(pixels_from_bytes(picture));
  ASSERT_EQ(images.size(), 1U);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(images[0].pixel(i % 16, i / 16)[1], i);
}

TEST(Pixels, ImagesBecomePixelsOfOneBatch) {
  std::vector<Image> images = {Image(3, 2), Image(3, 2)};
  images[1].pixel(2, 1)[0] = 255;
  const torch::Tensor pixels = pixels_from_images(images);
  ASSERT_EQ(pixels.sizes(), (std::vector<std::int64_t>{2, 3, 2, 3}));
  EXPECT_EQ(pixels[1][0][1][2].item<float>(), 1);
  EXPECT_EQ(pixels.sum().item<float>(), 2 - 36);
  images.emplace_back(2, 3);
  EXPECT_NE(refusal([&] { pixels_from_images(images); }).find("images of 3x2, got 2x3"),
            std::string::npos);
  EXPECT_THROW(pixels_from_images({}), Error);
}

TEST(Pixels, OutOfRangeIsClamped) {
  const auto images = images_from_pixels(torch::tensor({-3.0F, 3.0F, 0.0F}).view({1, 3, 1, 1}));
  EXPECT_EQ(images[0].rgb, (std::vector<std::uint8_t>{0, 255, 128}));
}

}  // namespace
}  // namespace rtlynx
