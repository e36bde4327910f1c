// SPDX-License-Identifier: Apache-2.0
#include "study/kept_work.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "mini/small_pipeline.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

class KeptWorkTest : public testing::Test {
 protected:
  DenseTrajectory draw(double guidance) {
    GenerateRequest request{.prompts = {"a red circle", "a blue ring", "the word cat"},
                            .seeds = {1, 2, 3},
                            .steps = 2,
                            .guidance = guidance};
    return record_trajectory(pipeline_, request, /*batch=*/2);
  }

  test::TempDir temporary_;
  std::filesystem::path folder_ = temporary_ / "work";
  nlohmann::ordered_json settings_ = {{"steps", 2}};
  Pipeline pipeline_ = test::small_pipeline();
};

TEST_F(KeptWorkTest, TrajectoriesComeBackToTheBit) {
  for (const double guidance : {1.0, 3.0}) {
    const DenseTrajectory drawn = draw(guidance);
    KeptWork(folder_, settings_).keep(drawn);
    const auto kept = KeptWork(folder_, settings_).trajectory(torch::kCPU);
    ASSERT_TRUE(kept);
    EXPECT_EQ(kept->prompts, 3U);
    EXPECT_EQ(kept->steps, 2);
    ASSERT_EQ(kept->records.size(), drawn.records.size());
    for (std::size_t i = 0; i < drawn.records.size(); ++i) {
      const auto& a = drawn.records[i];
      const auto& b = kept->records[i];
      EXPECT_EQ(a.step, b.step);
      EXPECT_EQ(a.first, b.first);
      EXPECT_EQ(a.prompts, b.prompts);
      EXPECT_TRUE(a.velocity.equal(b.velocity));
      EXPECT_TRUE(a.inputs.hidden_states.equal(b.inputs.hidden_states));
      EXPECT_TRUE(a.inputs.encoder_hidden_states.equal(b.inputs.encoder_hidden_states));
      EXPECT_TRUE(a.inputs.pooled_projections.equal(b.inputs.pooled_projections));
      EXPECT_TRUE(a.inputs.timestep.equal(b.inputs.timestep));
      EXPECT_TRUE(a.inputs.img_ids.equal(b.inputs.img_ids));
      EXPECT_TRUE(a.inputs.txt_ids.equal(b.inputs.txt_ids));
    }
  }
}

TEST_F(KeptWorkTest, PicturesComeBack) {
  const std::vector<Image> pictures = pipeline_.generate(
      {.prompts = {"a red circle", "a blue ring"}, .seeds = {1, 2}, .steps = 1, .width = 32});
  const KeptWork work(folder_, settings_);
  EXPECT_FALSE(work.dense_pictures());
  work.keep_dense_pictures(pictures);
  const auto kept_pictures = work.dense_pictures().value();
  ASSERT_EQ(kept_pictures.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(kept_pictures[i].width, 32);
    EXPECT_EQ(kept_pictures[i].rgb, pictures[i].rgb);
  }
}

TEST_F(KeptWorkTest, OfOtherSettingsDoesNotCount) {
  KeptWork(folder_, settings_).keep(draw(1));
  const KeptWork other(folder_, {{"steps", 3}});
  EXPECT_FALSE(other.trajectory(torch::kCPU));
  EXPECT_NE(other.sums_file("none"), KeptWork(folder_, settings_).sums_file("none"));
}

TEST_F(KeptWorkTest, RemovesItsOwnFilesAlone) {
  KeptWork work(folder_, settings_);
  work.keep(draw(1));
  write_file_atomically(folder_ / "diary.safetensors", "dear diary");
  work.remove();
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  std::filesystem::remove(folder_ / "diary.safetensors");
  work.remove();
  EXPECT_FALSE(std::filesystem::exists(folder_));
  work.remove();
}

TEST_F(KeptWorkTest, TheLastOfThoseWhoShareTheFolderRemovesIt) {
  KeptWork first(folder_, settings_);
  first.keep(draw(1));
  KeptWork second(folder_, settings_);
  first.remove();
  EXPECT_TRUE(second.trajectory(torch::kCPU));
  second.remove();
  EXPECT_FALSE(std::filesystem::exists(folder_));
}

TEST_F(KeptWorkTest, AnotherFileIsRefused) {
  const KeptWork work(folder_, settings_);
  std::filesystem::create_directories(folder_);
  write_safetensors(folder_ / "dense pictures.safetensors", {}, {{"format", "pt"}});
  EXPECT_THROW(work.dense_pictures(), Error);
  write_safetensors(folder_ / "dense trajectory.safetensors", {},
                    {{"format", "rtlynx evaluation work 2"},
                     {"settings", settings_.dump()},
                     {"description", "{}"}});
  EXPECT_THROW(work.trajectory(torch::kCPU), Error);
}

TEST_F(KeptWorkTest, WithoutAFolderNothingIsKept) {
  KeptWork none({}, settings_);
  none.keep(draw(1));
  EXPECT_FALSE(none.trajectory(torch::kCPU));
  EXPECT_TRUE(none.sums_file("none").empty());
  none.remove();
  EXPECT_TRUE(temporary_.list().empty());
}

}  // namespace
}  // namespace rtlynx
