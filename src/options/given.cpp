// SPDX-License-Identifier: Apache-2.0
#include "options/given.h"

#include <algorithm>
#include <array>
#include <string>

namespace rtlynx::options {
namespace {

constexpr std::array<const char*, 2> kMayBeEmpty = {"--prompt", "--negative"};

std::string refuse_empty(const std::string& text) {
  return text.empty() ? "required a value, got an empty one" : "";
}

}  // namespace

void refuse_empty_values(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    for (CLI::Option* option : command->get_options()) {
      const bool may_be_empty = std::ranges::any_of(
          kMayBeEmpty, [&](const char* name) { return option->check_name(name); });
      if (option->get_expected_max() == 0 || may_be_empty) continue;
      option->check(CLI::Validator(refuse_empty, ""));
    }
  }
}

}  // namespace rtlynx::options
