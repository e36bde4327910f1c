// SPDX-License-Identifier: Apache-2.0
#include "study/kept_blocks.h"

#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kDrawing = "drawing";

Json describe(const CalibratedLayer& layer) {
  return {{"name", layer.name},
          {"tokens", layer.tokens},
          {"in", layer.in_features},
          {"out", layer.out_features},
          {"error_before", layer.solution.error_before},
          {"error", layer.solution.error},
          {"unrecoverable", layer.solution.unrecoverable}};
}

}  // namespace

KeptBlocks::KeptBlocks(std::filesystem::path folder, const Json& settings)
    : folder_(std::move(folder)) {
  if (!folder_.empty()) results_.emplace(file("results.json"), settings);
}

std::filesystem::path KeptBlocks::file(const std::string& name) const { return folder_ / name; }

std::optional<std::vector<DrawnStep>> KeptBlocks::drawing() const {
  const Json* const described = results_ ? results_->find(kDrawing) : nullptr;
  if (described == nullptr) return std::nullopt;
  const std::filesystem::path path = file("drawing.safetensors");
  const SafetensorsFile tensors = SafetensorsFile::open(path);
  std::vector<DrawnStep> passes;
  for (const Json& pass : *described) {
    const std::string name = std::to_string(passes.size());
    passes.push_back({.latents = copy_to_tensor(tensors.entry(name), path.string()),
                      .sigma = pass["sigma"].get<double>(),
                      .prompt = pass["prompt"].get<std::int64_t>()});
  }
  return passes;
}

void KeptBlocks::keep_drawing(const std::vector<DrawnStep>& passes) {
  if (!results_) return;
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  Json described = Json::array();
  for (const DrawnStep& pass : passes) {
    tensors.emplace_back(std::to_string(tensors.size()), pass.latents);
    described.push_back({{"sigma", pass.sigma}, {"prompt", pass.prompt}});
  }
  std::filesystem::create_directories(folder_);
  write_safetensors(file("drawing.safetensors"), TensorBytes(tensors).entries());
  results_->add(kDrawing, described);
}

bool KeptBlocks::take(const std::string& block, CalibrateResult& result) const {
  const Json* const described = results_ ? results_->find(block) : nullptr;
  if (described == nullptr) return false;
  const ModelCompensation made = read_compensation(file(block + "safetensors"));
  for (const Json& of_layer : *described) {
    const std::string name = of_layer["name"].get<std::string>();
    const LayerCompensation& layer = made.layers.at(name);
    CalibratedLayer solved{.name = name,
                           .input = layer.input,
                           .tokens = of_layer["tokens"].get<std::int64_t>(),
                           .in_features = of_layer["in"].get<std::int64_t>(),
                           .out_features = of_layer["out"].get<std::int64_t>(),
                           .solution = {},
                           .rivals = {}};
    solved.solution.values = layer.values;
    solved.solution.error_before = of_layer["error_before"].get<double>();
    solved.solution.error = of_layer["error"].get<double>();
    solved.solution.unrecoverable = of_layer["unrecoverable"].get<double>();
    result.layers.push_back(std::move(solved));
    result.compensation.layers.emplace(name, layer);
  }
  return true;
}

void KeptBlocks::keep(const std::string& block, const CalibrateResult& solved) {
  if (!results_) return;
  Json described = Json::array();
  for (const CalibratedLayer& layer : solved.layers) described.push_back(describe(layer));
  write_compensation(file(block + "safetensors"), solved.compensation);
  results_->add(block, described);
}

}  // namespace rtlynx
