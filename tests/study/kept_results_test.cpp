// SPDX-License-Identifier: Apache-2.0
#include "study/kept_results.h"

#include <gtest/gtest.h>

#include <string>

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
