// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "layers/sparse_linear.h"
#include "pipeline/text_to_image.h"
#include "study/evaluate.h"

namespace rtlynx {

/// Which pictures to draw with a model of diffusers, and what to compare.
struct PromptEvaluationOptions {
  PictureRequest request;  ///< every prompt with its seed, all pictures of one size
  std::vector<std::string> methods = {"dense", "naive", "norm"};  ///< that have a mode
  std::vector<std::filesystem::path> compensations;               ///< after these
  std::filesystem::path lpips;  ///< weights (study/lpips.h); none: not measured
  bool noise_floor = false;     ///< as of evaluate_methods; refused where nothing rounds otherwise
  std::filesystem::path results;   ///< of finished methods, as of evaluate_methods
  bool restart = false;            ///< begins anew, and replaces the file
  std::filesystem::path pictures;  ///< folder for <method>-0000.png and so on; none: not written
  int kept_pictures = 8;           ///< of every method, the first ones
};

/// How whoever draws with a model makes its dense layers work otherwise.
struct LayerSetters {
  std::function<void(torch::nn::Module& transformer, LinearMode mode)> of_mode;
  std::function<void(torch::nn::Module& transformer, const std::filesystem::path& compensation)>
      of_file;
};

/// A model of diffusers as an evaluation meets it.
struct PromptedModel {
  std::filesystem::path folder;
  torch::TensorOptions tensors;  ///< as the pipeline has it
  std::string sparse_layers;     ///< which of a method's layers are so, for people
  LayerSetters setters;
};

/// The counterpart of evaluate_methods for a model of diffusers: draws every prompt from its seed
/// by every method, dense always first, and holds the pictures against the dense ones. No captions
/// are checked, as the pictures show what a user asked for, and no velocity is compared.
///
/// The report has what was run, `pictures`, a list of {prompt, seed}, and `methods`, each with
/// name, kind, description, relative_cost and score_against_dense, and with the noise floor if it
/// was asked for. Results are kept and gone on with by the method, the dense pictures beside them.
///
/// Before any work throws UsageError for a method that has to learn first, for values in e4m3 that
/// do not run here, and for a noise floor where another batch rounds the same; once the model is
/// loaded, before a picture is drawn, Error for a compensation that does not fit. Returns nothing
/// where `on_progress` stopped it.
std::optional<nlohmann::ordered_json> evaluate_prompts(TextToImagePipeline& pipeline,
                                                       const PromptedModel& model,
                                                       const PromptEvaluationOptions& options,
                                                       const EvaluateCallback& on_progress = {},
                                                       const PlanCallback& on_plan = {});

}  // namespace rtlynx
