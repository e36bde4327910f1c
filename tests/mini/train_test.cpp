// SPDX-License-Identifier: Apache-2.0
#include "mini/train.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "io/safetensors.h"
#include "models/tensor_bytes.h"
#include "refusal.h"
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

TEST_F(Training, WhatIsNotFiniteIsNeverKept) {
  TrainOptions wild = options("run");
  wild.learning_rate = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(train_lynx_mini(wild), UsageError);
  wild.learning_rate = 1e38;
  EXPECT_NE(refusal([&] { train_lynx_mini(wild); }).find("finite"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

TEST_F(Training, ACheckpointThatIsNotFiniteIsRefused) {
  train_lynx_mini(options("run"), [](const TrainProgress&) { return false; });
  const SafetensorsFile file = SafetensorsFile::open(folder_ / "run");
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const std::string& name : file.names()) {
    tensors.emplace_back(name, copy_to_tensor(file.entry(name), name));
    if (name == "average.transformer.proj_out.bias") tensors.back().second.fill_(NAN);
  }
  const TensorBytes bytes(tensors);
  write_safetensors(folder_ / "broken", bytes.entries(), file.metadata());
  const std::string message = refusal([&] { train_lynx_mini(options("broken")); });
  EXPECT_NE(message.find("broken, tensor average.transformer.proj_out.bias: required finite"),
            std::string::npos)
      << message;
}

TEST_F(Training, AskedBeforeTheFirstStepItMayBeRefused) {
  TrainOptions refused = options("run");
  refused.before = [](Pipeline& pipeline) { throw Error("not " + pipeline.name); };
  EXPECT_EQ(refusal([&] {
              train_lynx_mini(refused, [](const TrainProgress&) {
                ADD_FAILURE() << "trained";
                return false;
              });
            }),
            "not lynx-mini");
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
