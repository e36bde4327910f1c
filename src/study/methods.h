// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compensate/compensation_file.h"
#include "compensate/moments.h"
#include "layers/sparse_linear.h"
#include "study/calibrate.h"
#include "study/calibration_run.h"

namespace rtlynx {

/// What a method may learn from: the training split, never the captions that it is judged by.
struct MethodInputs {
  CalibrationRun run;
  GroupMoments moments;  ///< of the inputs as they are; empty if no method reads them
  /// By transform and norm: made by the first that needs them.
  std::shared_ptr<std::map<std::string, CalibrationSums>> sums =
      std::make_shared<std::map<std::string, CalibrationSums>>();
  /// The file that keeps the sums of this transform and norm; empty: not kept.
  std::function<std::filesystem::path(const std::string& sums)> statistics;
  CalibrateCallback on_calibrate;  ///< while they are drawn
};

/// The name of the sums that no transform and no norm is in, as input_sums_options asks for them.
inline constexpr const char* kSumsOfInputs = "none";

/// Thrown by Method::prepare after inputs.on_calibrate returned false.
struct Stopped {};

/// One way to make the recipe's layers cheaper, as evaluations list it.
struct Method {
  enum class Kind { dense, activation24, weight24, fixed_choice, mixed };

  std::string name;  ///< as options and reports spell it
  Kind kind = Kind::dense;
  std::string description;
  bool reads_moments = false;
  bool e4m3 = false;                    ///< some layers' values are in e4m3
  std::optional<LinearMode> mode = {};  ///< of the recipe's layers, where that is all of it
  /// Throws UsageError where the model's layers do not allow the method. Changes nothing.
  std::function<void(const Pipeline& pipeline)> check;
  /// What it draws to learn from, by the names of the sums; the run is the inputs'.
  std::map<std::string, CalibrateOptions> calibrations = {};
  /// Makes a model with dense layers work by this method. Returns the multiplications of the
  /// recipe's layers relative to dense ones; choosing, permuting and scaling are not counted.
  std::function<double(Pipeline& pipeline, const MethodInputs& inputs)> prepare;
};

/// "dense", "activation 2:4", "weight 2:4", "fixed choice" or "mixed".
std::string_view to_string(Method::Kind kind);

/// All methods, dense first.
std::span<const Method> all_methods();

/// Throws UsageError that lists the names for one that is not among them.
const Method& find_method(std::string_view name);

/// Whether layers in e4m3 run: kernels read fp16 and bf16, the CPU computes e4m3 in any type.
bool runs_e4m3(const torch::TensorOptions& options);

/// Throws UsageError, beginning with the method's name, where they do not.
void check_e4m3(const torch::TensorOptions& options, std::string_view method);

/// What evaluations list of a compensation in a file.
struct MethodFacts {
  std::string name;  ///< the file's
  Method::Kind kind = Method::Kind::activation24;
  std::string description;
  bool e4m3 = false;
};

MethodFacts facts_of(const ModelCompensation& compensation, const std::filesystem::path& file);

/// A file of rtlynx calibrate as a method by the file's name. Throws Error, as apply_compensation
/// does, if it is not for this pipeline.
Method method_from_file(Pipeline& pipeline, const std::filesystem::path& path);

/// Makes every layer dense again, with the model's own weights.
void restore_dense(Pipeline& pipeline);

}  // namespace rtlynx
