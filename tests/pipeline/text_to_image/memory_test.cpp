// SPDX-License-Identifier: Apache-2.0
// What the pipeline holds in memory: parts loaded in turns or beside each other, tiles.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "fake_model.h"
#include "pipeline/text_to_image.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using test::FakeModel;
using test::level;
using test::Log;
using test::pipeline_in_turns;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using TextToImage = test::TextToImage;

TEST_F(TextToImage, EncodersAreFreedBeforeTheTransformerIsLoaded) {
  draw({.prompts = {"0", "0.5", "0"}, .seeds = {1, 2, 3}});
  EXPECT_THAT(log_, ElementsAre("load encoder", "encode 0", "encode 0.5", "free encoder",
                                "load transformer", "load autoencoder"));
  log_.clear();
  draw({.prompts = {"0.5"}, .seeds = {4}});
  EXPECT_THAT(log_, IsEmpty()) << "nothing new had to be loaded";
  draw({.prompts = {"0.25"}, .seeds = {4}});
  EXPECT_THAT(log_, ElementsAre("load encoder", "encode 0.25", "free encoder"))
      << "all parts fit beside each other";
}

TEST_F(TextToImage, TheTransformerIsFreedWhereEncodersDoNotFitBesideIt) {
  TextToImagePipeline pipeline = pipeline_in_turns(log_);
  pipeline.prepare({.prompts = {"0"}, .seeds = {1}});
  const auto before = std::ssize(log_);
  pipeline.prepare({.prompts = {"0.25"}, .seeds = {4}});
  EXPECT_THAT(std::vector(log_.begin() + before, log_.end()),
              ElementsAre("free transformer", "free autoencoder", "load encoder", "encode 0.25",
                          "free encoder", "load transformer", "load autoencoder"));
}

TEST_F(TextToImage, TheTransformerIsFreedWhereEncodingBesideItTakesTooMuch) {
  auto model = std::make_unique<FakeModel>(log_);
  model->states_too_large = true;
  TextToImagePipeline pipeline(std::move(model), SchedulerConfig{}, torch::kFloat32);
  pipeline.prepare({.prompts = {"0"}, .seeds = {1}});
  const auto before = std::ssize(log_);
  pipeline.prepare({.prompts = {"0.25", "0.5"}, .seeds = {4, 5}});
  EXPECT_THAT(std::vector(log_.begin() + before, log_.end()),
              ElementsAre("load encoder", "encode 0.25", "free encoder", "free transformer",
                          "free autoencoder", "load encoder", "encode 0.5", "free encoder",
                          "load transformer", "load autoencoder"))
      << "no prompt is encoded twice";
}

TEST_F(TextToImage, PreparingForgetsThePromptsOfOtherRequests) {
  const PictureRequest first{.prompts = {"0.5", "0"}, .seeds = {1, 2}};
  pipeline_.prepare(first);
  pipeline_.prepare({.prompts = {"0"}, .seeds = {1}});
  log_.clear();
  draw({.prompts = {"0"}, .seeds = {1}});
  EXPECT_THAT(log_, IsEmpty());
  draw(first);
  EXPECT_THAT(log_, Contains("encode 0.5"));
  EXPECT_THAT(log_, Not(Contains("encode 0")));
}

TEST_F(TextToImage, LayersAreChangedOfEveryTransformerThatIsLoaded) {
  TextToImagePipeline pipeline = pipeline_in_turns(log_);
  pipeline.set_layer_change([&](torch::nn::Module&) { log_.push_back("change"); });
  pipeline.prepare({.prompts = {"0"}, .seeds = {1}});
  pipeline.prepare({.prompts = {"0"}, .seeds = {2}});
  pipeline.prepare({.prompts = {"0.5"}, .seeds = {1}});
  EXPECT_EQ(std::count(log_.begin(), log_.end(), "change"), 2);
  pipeline.set_layer_change([](torch::nn::Module&) { throw Error("does not fit"); });
  const PictureRequest other{.prompts = {"0.25"}, .seeds = {1}};
  const auto refused = [&] {
    return refusal(
        [&] { pipeline.draw(other, {.on_images = [](std::size_t, std::vector<Image>) {}}); });
  };
  EXPECT_EQ(refused(), "does not fit");
  EXPECT_EQ(refused(), "does not fit") << "nothing is drawn as it was loaded";
}

TEST_F(TextToImage, MemoryForEveryPartIsAskedForBeforeTheFirstIsLoaded) {
  const test::TempDir folder;
  pipeline_.set_prompt_cache(PromptCache(folder.path()));
  const PictureRequest request{.prompts = {"0"}, .seeds = {1}};
  for (const char* const part : {"encoder", "transformer"}) {
    auto model = std::make_unique<FakeModel>(log_);
    model->too_large = part;
    TextToImagePipeline pipeline(std::move(model), SchedulerConfig{}, torch::kFloat32);
    pipeline.set_prompt_cache(PromptCache(folder.path()));
    log_.clear();
    EXPECT_EQ(refusal([&] { pipeline.prepare(request); }),
              "load " + std::string(part) + ": no memory");
    EXPECT_THAT(log_, IsEmpty());
  }
  draw(request);
  auto model = std::make_unique<FakeModel>(log_);
  model->too_large = "encoder";
  TextToImagePipeline pipeline(std::move(model), SchedulerConfig{}, torch::kFloat32);
  pipeline.set_prompt_cache(PromptCache(folder.path()));
  EXPECT_EQ(refusal([&] { pipeline.prepare(request); }), "accepted") << "it is not needed";
}

// 512 x 512 pixels, five tensors of 3 channels in fp32: 15 MiB. A quarter is less than what a tile
// of 256 x 256 pixels takes, 3.75 MiB, which the limit is then, in whole MiB: three tiles of 215
// pixels along each side.
class TextToImageMemory : public testing::Test {
 protected:
  static constexpr int kSide = 512;
  static constexpr std::int64_t kTile = 215 * 215;

  /// On a device of its own: what others hold is not looked at.
  TextToImagePipeline pipeline(std::int64_t room) {
    log_.clear();
    return pipeline_in_turns(log_, room);
  }
  /// What the callbacks heard, in their order.
  std::vector<std::string> drawn(TextToImagePipeline& pipeline,
                                 const std::optional<Image>& image = {}) {
    std::vector<std::string> heard;
    pipeline.draw({.prompts = {"0.5", "0.25"},
                   .seeds = {1, 2},
                   .width = kSide,
                   .height = kSide,
                   .image = image},
                  {.on_images =
                       [&](std::size_t first, const std::vector<Image>& images) {
                         EXPECT_EQ(images.front().rgb.back(), level(first == 0 ? 0.5 : 0.25));
                         heard.push_back("picture " + std::to_string(first));
                       },
                   .on_tiles =
                       [&](std::int64_t mebibytes) {
                         heard.push_back("within " + std::to_string(mebibytes));
                       }});
    return heard;
  }

  Log log_;
};

TEST_F(TextToImageMemory, PicturesThatDoNotFitAreDecodedInTilesFromThereOn) {
  TextToImagePipeline small = pipeline(kTile);
  EXPECT_THAT(drawn(small), ElementsAre("within 4", "picture 0", "picture 1"));
  EXPECT_THAT(drawn(small), ElementsAre("picture 0", "picture 1"));
  small.prepare({.prompts = {"0"}, .seeds = {1}});
  EXPECT_THAT(log_, Contains("free autoencoder"));
  EXPECT_THAT(drawn(small), ElementsAre("picture 0", "picture 1")) << "the next one knows as well";
  TextToImagePipeline large = pipeline(kSide * kSide);
  EXPECT_THAT(drawn(large), ElementsAre("picture 0", "picture 1"));
}

TEST_F(TextToImageMemory, AnImageToBeginWithIsEncodedInTiles) {
  TextToImagePipeline small = pipeline(kTile);
  EXPECT_THAT(drawn(small, Image(kSide, kSide)), ElementsAre("within 4", "picture 0", "picture 1"));
}

TEST_F(TextToImageMemory, ALimitThatIsSetIsKept) {
  TextToImagePipeline small = pipeline(kTile);
  small.set_vae_memory(4);
  EXPECT_THAT(drawn(small), ElementsAre("picture 0", "picture 1"));
  TextToImagePipeline later = pipeline(kTile);
  later.prepare({.prompts = {"0.5", "0.25"}, .seeds = {1, 2}});
  later.set_vae_memory(4);
  EXPECT_THAT(drawn(later), ElementsAre("picture 0", "picture 1"));
  log_.clear();
  EXPECT_EQ(refusal([&] { pipeline(1).set_vae_memory(3); }),
            "generate: required at least 4 MiB for the autoencoder, a tile of 256 pixels, got 3");
  EXPECT_THAT(log_, Not(Contains("load encoder")));
}

TEST_F(TextToImageMemory, WhereTheSmallestTileDoesNotFitItIsAnError) {
  TextToImagePipeline none = pipeline(kTile - 1);
  EXPECT_THROW(drawn(none), c10::OutOfMemoryError);
}

}  // namespace
}  // namespace rtlynx
