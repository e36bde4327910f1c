// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <exception>
#include <string>

namespace rtlynx::cli {

/// Each adds one subcommand to `app`; the work runs in the subcommand's callback and reports
/// failure by throwing UsageError (exit code 2) or Error (exit code 1).
void add_generate(CLI::App& app);
void add_analyze(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_report(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_train_mini(CLI::App& app);
void add_bench(CLI::App& app);
void add_info(CLI::App& app);

/// What to tell a user about an exception: torch's errors without their C++ backtrace.
std::string message_of(const std::exception& error);

}  // namespace rtlynx::cli
