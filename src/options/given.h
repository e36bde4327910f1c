// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

namespace rtlynx::options {

/// Makes every option of the app's subcommands refuse an empty value, which a script's unset
/// variable leaves and which would count as not given. Prompts may be empty. Call it when all
/// options are added.
void refuse_empty_values(CLI::App& app);

}  // namespace rtlynx::options
