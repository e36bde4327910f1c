// SPDX-License-Identifier: Apache-2.0
#include "options/given.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace rtlynx::options {
namespace {

bool is_taken(std::vector<std::string> from_the_back) {
  CLI::App app;
  std::string file;
  std::vector<std::string> prompts;
  bool flag = false;
  CLI::App* command = app.add_subcommand("draw");
  command->add_option("--file", file);
  command->add_option("-p,--prompt", prompts)->allow_extra_args(false);
  command->add_flag("--flag", flag);
  refuse_empty_values(app);
  try {
    app.parse(std::move(from_the_back));
  } catch (const CLI::ParseError&) {
    return false;
  }
  return true;
}

TEST(RefuseEmptyValues, LeavesPromptsAndFlags) {
  EXPECT_TRUE(is_taken({"x", "--file", "draw"}));
  EXPECT_TRUE(is_taken({"--flag", "draw"}));
  EXPECT_TRUE(is_taken({"", "-p", "draw"}));
  EXPECT_FALSE(is_taken({"", "--file", "draw"}));
}

}  // namespace
}  // namespace rtlynx::options
