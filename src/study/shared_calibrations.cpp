// SPDX-License-Identifier: Apache-2.0
#include "study/shared_calibrations.h"

#include <algorithm>
#include <map>
#include <utility>

namespace rtlynx {
namespace {

using ByName = std::map<std::string, CalibrateOptions>;

ByName calibrations_of(std::span<const Method> methods) {
  ByName all;
  for (const Method& method : methods) all.merge(ByName(method.calibrations));
  return all;
}

bool keeps_inputs(const ByName::value_type& calibration) {
  return calibration.second.transform.kind == TransformChoice::Kind::none;
}

ByName::value_type sums_of_inputs(std::span<const Method> all, const CalibrationRun& run) {
  const ByName known = calibrations_of(all);
  const auto found = std::find_if(known.begin(), known.end(), keeps_inputs);
  if (found != known.end()) return *found;
  return {kSumsOfInputs, input_sums_options(run)};
}

}  // namespace

SharedCalibrations share_calibrations(std::span<const Method> waiting, std::span<const Method> all,
                                      const CalibrationRun& run, std::int64_t rows) {
  SharedCalibrations shared;
  const bool any_learns = std::any_of(waiting.begin(), waiting.end(),
                                      [](const Method& method) { return method.reads_moments; });
  if (!any_learns) return shared;
  ByName by_name = calibrations_of(waiting);
  if (std::none_of(by_name.begin(), by_name.end(), keeps_inputs)) {
    by_name.insert(sums_of_inputs(all, run));
  }
  for (auto& calibration : by_name) {
    if (keeps_inputs(calibration)) shared.of_inputs = shared.sums.size();
    shared.sums.push_back(calibration.first);
    shared.options.push_back(std::move(calibration.second));
    shared.options.back().run = run;
    shared.options.back().rows = rows;
  }
  return shared;
}

}  // namespace rtlynx
