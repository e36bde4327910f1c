// SPDX-License-Identifier: Apache-2.0
#include "study/train.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

class Training : public testing::Test {
 protected:
  TrainOptions options(const char* checkpoint) const {
    return {.shape = {.heads = 1, .double_blocks = 1, .single_blocks = 1},
            .seed = 11,
            .steps = 6,
            .batch = 4,
            .warm_up = 2,
            .checkpoint = checkpoint == nullptr ? std::filesystem::path() : folder_ / checkpoint,
            .checkpoint_interval = 100};
  }

  test::TempDir temporary_;
  std::filesystem::path folder_ = temporary_.path();
};

TEST_F(Training, InterruptedAndResumedEqualsUninterrupted) {
  const TrainResult whole = train_lynx_mini(options(nullptr));
  const TrainResult first = train_lynx_mini(
      options("run"), [](const TrainProgress& progress) { return progress.step < 3; });
  EXPECT_EQ(first.finished_steps, 3);
  std::int64_t resumed_at = -1;
  const TrainResult second = train_lynx_mini(options("run"), [&](const TrainProgress& progress) {
    if (resumed_at < 0) resumed_at = progress.step - 1;
    return true;
  });
  EXPECT_EQ(resumed_at, 3);
  EXPECT_EQ(second.finished_steps, 6);
  const auto wanted = whole.pipeline.transformer->named_parameters();
  for (const auto& item : second.pipeline.transformer->named_parameters()) {
    EXPECT_TRUE(item.value().equal(wanted[item.key()])) << item.key();
  }
  EXPECT_TRUE(second.pipeline.text_encoder->token_embedding.equal(
      whole.pipeline.text_encoder->token_embedding));
}

TEST_F(Training, AFinishedRunIsNotTrainedFurther) {
  train_lynx_mini(options("run"));
  int steps = 0;
  const TrainResult again = train_lynx_mini(options("run"), [&](const TrainProgress&) {
    ++steps;
    return true;
  });
  EXPECT_EQ(steps, 0);
  EXPECT_FALSE(again.loss.has_value());
  EXPECT_EQ(again.finished_steps, 6);
}

TEST_F(Training, ACheckpointOfAnotherRunIsRefused) {
  train_lynx_mini(options("run"), [](const TrainProgress&) { return false; });
  TrainOptions other = options("run");
  other.batch = 5;
  try {
    train_lynx_mini(other);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("batch = 5, got 4"), std::string::npos)
        << error.what();
  }
}

TEST_F(Training, LearnsTheMeanPictureFirst) {
  TrainOptions longer = options(nullptr);
  longer.steps = 60;
  longer.learning_rate = 2e-3;
  double first = 0;
  const TrainResult result = train_lynx_mini(longer, [&](const TrainProgress& progress) {
    if (progress.step == 20) first = progress.loss.value();
    return true;
  });
  EXPECT_LT(result.loss.value(), 0.8 * first);
}

TEST(LearningRate, RisesHoldsAndFalls) {
  const TrainOptions options{.steps = 100, .learning_rate = 1.0, .warm_up = 10, .decay_share = 0.4};
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 0), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 9), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 60), 1.0);
  EXPECT_NEAR(learning_rate_at(options, 80), 0.5, 1e-12);
  EXPECT_LT(learning_rate_at(options, 99), 0.01);
}

}  // namespace
}  // namespace rtlynx
