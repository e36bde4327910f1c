// SPDX-License-Identifier: Apache-2.0
#include "options/given.h"

#include <string>

namespace rtlynx::options {
namespace {

constexpr const char* kMayBeEmpty = "--prompt";

std::string refuse_empty(const std::string& text) {
  return text.empty() ? "required a value, got an empty one" : "";
}

}  // namespace

void refuse_empty_values(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    for (CLI::Option* option : command->get_options()) {
      if (option->get_expected_max() == 0 || option->check_name(kMayBeEmpty)) continue;
      option->check(CLI::Validator(refuse_empty, ""));
    }
  }
}

}  // namespace rtlynx::options
