// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/evaluate_arguments.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

namespace rtlynx::cli {

/// Where finished methods are kept: named by the user, to stay, or beside the output, to be removed
/// at the end, or nowhere.
std::filesystem::path results_file(const EvaluateArguments& arguments);

/// Throws UsageError or Error, as FilePlan does, for the files of either kind of evaluation.
void check_files(const EvaluateArguments& arguments);

/// Shows the stages of an evaluation, and stops it where Ctrl-C comes.
class EvaluationWatch {
 public:
  bool operator()(const std::string& stage, std::int64_t finished, std::int64_t all);

 private:
  InterruptScope scope_;
  std::optional<ProgressBar> bar_;
  std::string stage_;
};

/// Writes and prints the report; without one, of an evaluation that was interrupted, throws Error
/// that says how it goes on.
void finish_evaluation(const std::optional<nlohmann::ordered_json>& report,
                       const EvaluateArguments& arguments);

}  // namespace rtlynx::cli
