// SPDX-License-Identifier: Apache-2.0
#include "study/kept_results.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "io/file.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

class KeptResultsTest : public testing::Test {
 protected:
  std::string refused(const Json& settings) const {
    return refusal([&] { KeptResults(path_, settings); });
  }

  test::TempDir folder_;
  std::filesystem::path path_ = folder_ / "results";
  Json settings_ = {{"steps", 28}, {"guidance", 4.5}};
};

TEST_F(KeptResultsTest, AreThereForTheNextRunInTheirOrder) {
  const Json one = {{"zebra", 0.1}, {"ant", 1.0}, {"none", nullptr}, {"list", {1, 2.5}}};
  KeptResults first(path_, settings_);
  EXPECT_EQ(first.find("one"), nullptr);
  first.add("one", one);
  first.add("two", 1.0 / 3);
  EXPECT_EQ(folder_.list(), (std::vector<std::string>{"results"}));
  const KeptResults second(path_, settings_);
  ASSERT_NE(second.find("one"), nullptr);
  EXPECT_EQ(second.find("one")->dump(), one.dump());
  EXPECT_EQ(*second.find("two"), 1.0 / 3);
  EXPECT_EQ(second.find("three"), nullptr);
}

TEST_F(KeptResultsTest, AnEmptyPathKeepsNothing) {
  KeptResults results({}, settings_);
  results.add("one", 1);
  EXPECT_EQ(*results.find("one"), 1);
  EXPECT_TRUE(folder_.list().empty());
}

TEST_F(KeptResultsTest, OfTwoProcessesAreAllKept) {
  KeptResults first(path_, settings_), second(path_, settings_);
  first.add("one", 1);
  second.add("two", 2);
  first.add("three", 3);
  const KeptResults all(path_, settings_);
  for (const char* name : {"one", "two", "three"}) EXPECT_NE(all.find(name), nullptr) << name;
  EXPECT_EQ(second.find("three"), nullptr);
  second.refresh();
  EXPECT_EQ(*second.find("three"), 3);
}

TEST_F(KeptResultsTest, TheFasterProcessDecides) {
  KeptResults first(path_, settings_), second(path_, settings_);
  first.add("one", "first");
  second.add("one", "second");
  EXPECT_EQ(*second.find("one"), "first");
  EXPECT_EQ(*KeptResults(path_, settings_).find("one"), "first");
}

TEST_F(KeptResultsTest, AFileThatIsGoneIsWrittenAnew) {
  KeptResults first(path_, settings_), second(path_, settings_);
  first.add("one", 1);
  std::filesystem::remove(path_);  // as a run does that ends
  second.add("two", 2);
  EXPECT_EQ(*KeptResults(path_, settings_).find("two"), 2);
}

TEST_F(KeptResultsTest, ManyProcessesAtOnceLoseNothing) {
  constexpr int kWriters = 8, kEach = 10;
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      KeptResults results(path_, settings_);
      for (int i = 0; i < kEach; ++i) {
        results.add(std::to_string(writer) + "." + std::to_string(i), i);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  const KeptResults all(path_, settings_);
  for (int writer = 0; writer < kWriters; ++writer) {
    for (int i = 0; i < kEach; ++i) {
      EXPECT_NE(all.find(std::to_string(writer) + "." + std::to_string(i)), nullptr);
    }
  }
}

TEST_F(KeptResultsTest, BegunAnewReplaceOnlyResults) {
  KeptResults(path_, settings_).add("one", 1);
  const Json other = {{"steps", 3}};
  {
    const KeptResults unused(path_, other, KeptResults::Begin::anew);
    EXPECT_NE(KeptResults(path_, settings_).find("one"), nullptr);  // until something new is there
  }
  KeptResults anew(path_, other, KeptResults::Begin::anew);
  anew.add("two", 2);
  anew.add("three", 3);
  EXPECT_EQ(KeptResults(path_, other).find("one"), nullptr);
  EXPECT_EQ(*KeptResults(path_, other).find("three"), 3);
  write_file_atomically(path_, "dear diary");
  EXPECT_THROW(KeptResults(path_, settings_, KeptResults::Begin::anew), UsageError);
  EXPECT_EQ(read_file(path_, 100), "dear diary");
}

TEST_F(KeptResultsTest, NothingThatIsNotFiniteIsKept) {
  KeptResults results(path_, settings_);
  EXPECT_NE(refusal([&] {
              results.add("one", {{"psnr", std::numeric_limits<double>::quiet_NaN()}});
            }).find("/results/one/psnr: required a finite number, got NaN"),
            std::string::npos);
  EXPECT_TRUE(folder_.list().empty());
}

TEST_F(KeptResultsTest, OtherSettingsAreRefusedByName) {
  KeptResults(path_, settings_).add("one", 1);
  const Json more_steps = {{"steps", 50}, {"guidance", 4.5}};
  EXPECT_NE(refused(more_steps).find("with steps = 50, got 28"), std::string::npos)
      << refused(more_steps);
  const Json another = {{"steps", 28}, {"guidance", 4.5}, {"pictures", "here"}};
  EXPECT_NE(refused(another).find("with pictures = \"here\", got none"), std::string::npos);
  EXPECT_NE(refused({{"steps", 28}}).find("more settings"), std::string::npos);
}

TEST_F(KeptResultsTest, OtherFilesAreRefused) {
  for (const char* text :
       {"", "{", "[]", "{}", "null", R"({"format": "rtlynx results 2", "settings": {}})",
        R"({"format": "rtlynx results 1", "settings": [], "results": {}})",
        R"({"format": "rtlynx results 1", "settings": {}, "results": 1})"}) {
    write_file_atomically(path_, text);
    EXPECT_NE(refused(settings_).find(path_.string()), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace rtlynx
