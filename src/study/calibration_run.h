// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "mini/mini_pipeline.h"
#include "study/observer_scope.h"

namespace rtlynx {

/// The pictures that a model draws so that its layers' inputs can be seen: captions of the training
/// split, over all timesteps and both guidance branches.
struct CalibrationRun {
  int prompts = 32;
  std::uint64_t seed = 7;  ///< of the captions; the pictures' noise is never an evaluation's
  int steps = 14;
  double guidance = 4.0;
  int batch = 8;
};

/// The run as a request. Throws UsageError for less than one prompt.
GenerateRequest calibration_request(const CalibrationRun& run);

/// Draws the request with every layer dense and shows `on_input` each input of the layers that
/// `wanted` names. `on_step` gets the finished and all steps.
void observe_inputs(Pipeline& pipeline, const GenerateRequest& request,
                    const std::function<bool(const std::string& layer)>& wanted,
                    const InputCallback& on_input, const StepCallback& on_step = {});

/// The same for a run, `run.batch` pictures at a time; `on_step` counts the steps of all batches.
void observe_inputs(Pipeline& pipeline, const CalibrationRun& run,
                    const std::function<bool(const std::string& layer)>& wanted,
                    const InputCallback& on_input, const StepCallback& on_step = {});

}  // namespace rtlynx
