// SPDX-License-Identifier: Apache-2.0
#include "study/calibration_state.h"

#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/text.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

constexpr const char* kFinished = "finished";

/// The passes under the names that they have in a file; of a state or of a const one.
template <typename State>
auto named_passes(State& state) {
  return std::array{std::pair("inputs", &state.inputs), std::pair("choices", &state.choices)};
}

SafetensorsMetadata complete(const SafetensorsMetadata& description) {
  SafetensorsMetadata metadata = description;
  metadata["format"] = kStatisticsFormat;
  return metadata;
}

torch::Tensor count_of(const CalibrationPass& pass) {
  return torch::full({}, pass.finished, torch::kInt64);
}

CalibrationPass pass_from(std::map<std::string, torch::Tensor> tensors, const std::string& where) {
  CalibrationPass pass;
  const auto finished = tensors.extract(kFinished);
  const bool counted = !finished.empty() && finished.mapped().scalar_type() == torch::kInt64 &&
                       finished.mapped().dim() == 0;
  require(counted, where, "a number of finished prompts", "none");
  pass.finished = finished.mapped().item<std::int64_t>();
  pass.moments = moments_from_tensors(tensors, where);
  return pass;
}

}  // namespace

void save_calibration(const std::filesystem::path& path, const SafetensorsMetadata& description,
                      const CalibrationState& state) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& [name, pass] : named_passes(state)) {
    check_finite(pass->moments);
    const std::string prefix = std::string(name) + ".";
    tensors.emplace_back(prefix + kFinished, count_of(*pass));
    for (auto& [key, tensor] : named_tensors(pass->moments)) {
      tensors.emplace_back(prefix + key, tensor);
    }
  }
  const TensorBytes bytes(tensors);
  write_safetensors(path, bytes.entries(), complete(description));
}

CalibrationState load_calibration(const std::filesystem::path& path,
                                  const SafetensorsMetadata& description, torch::Device device) {
  CalibrationState state;
  if (!std::filesystem::exists(path)) return state;
  const std::string where = path.string();
  const SafetensorsFile file = SafetensorsFile::open(path);
  const SafetensorsMetadata expected = complete(description);
  for (const auto& [key, wanted] : expected) {
    const auto found = file.metadata().find(key);
    const std::string arrived = found == file.metadata().end() ? "none" : printable(found->second);
    require(arrived == wanted, where,
            "statistics of this calibration, with " + key + " = " + wanted, arrived);
  }
  for (const auto& [key, arrived] : file.metadata()) {
    require(expected.contains(key), where,
            "statistics of this calibration, without a " + printable(key), printable(arrived));
  }
  std::map<std::string, std::map<std::string, torch::Tensor>> by_pass;
  for (const std::string& name : file.names()) {
    const std::size_t dot = name.find('.');
    const std::string rest = dot == std::string::npos ? "" : name.substr(dot + 1);
    torch::Tensor tensor = copy_to_tensor(file.entry(name), where + ", tensor " + name);
    by_pass[name.substr(0, dot)][rest] = tensor.dim() == 2 ? tensor.to(device) : tensor;
  }
  for (const auto& [name, pass] : named_passes(state)) {
    *pass = pass_from(by_pass[name], where + ", pass " + name);
    by_pass.erase(name);
  }
  require(by_pass.empty(), where, "passes inputs and choices", "another");
  return state;
}

}  // namespace rtlynx
