// SPDX-License-Identifier: Apache-2.0
#include "study/picture_features.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "mini/scenes/scene.h"
#include "study/frechet_distance.h"

namespace rtlynx {
namespace {

constexpr double kBlackSum = 48.22525;

std::vector<Image> scenes(int count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<Image> pictures;
  for (int i = 0; i < count; ++i) pictures.push_back(render(sample_scene(rng, Split::train)));
  return pictures;
}

// Each pixel the mean of itself and its right and lower neighbours.
Image blurred(const Image& image) {
  Image out = image;
  for (int y = 0; y + 1 < image.height; ++y) {
    for (int x = 0; x + 1 < image.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        out.pixel(x, y)[c] = static_cast<std::uint8_t>(
            (image.pixel(x, y)[c] + image.pixel(x + 1, y)[c] + image.pixel(x, y + 1)[c]) / 3);
      }
    }
  }
  return out;
}

// The network's name stands for these numbers: whoever changes them has to change the name.
TEST(PictureFeatures, AreFrozen) {
  const torch::Tensor features = picture_features({Image(64, 64)});
  ASSERT_EQ(features.sizes(), (torch::IntArrayRef{1, kPictureFeatureCount}));
  EXPECT_NEAR(features.sum().item<double>(), kBlackSum, 1e-3);
}

TEST(PictureFeatures, OfAPictureDoNotDependOnItsNeighbours) {
  const std::vector<Image> pictures = scenes(70, 1);  // more than one batch
  const torch::Tensor all = picture_features(pictures);
  EXPECT_TRUE(picture_features({pictures[69]})[0].allclose(all[69], 1e-5, 1e-6));
}

TEST(PictureFeatures, TellBlurredScenesFromScenes) {
  const std::vector<Image> one = scenes(150, 2), other = scenes(150, 3);
  std::vector<Image> soft = other;
  std::transform(soft.begin(), soft.end(), soft.begin(), blurred);
  const torch::Tensor reference = picture_features(one);
  EXPECT_GT(frechet_distance(reference, picture_features(soft)),
            frechet_distance(reference, picture_features(other)));
}

TEST(PictureFeatures, RefuseSmallAndUnequalPictures) {
  EXPECT_THROW(picture_features({}), Error);
  EXPECT_THROW(picture_features({Image(16, 20)}), Error);
  EXPECT_THROW(picture_features({Image(20, 20), Image(20, 24)}), Error);
  EXPECT_EQ(picture_features({Image(17, 17)}).size(0), 1);
}

}  // namespace
}  // namespace rtlynx
