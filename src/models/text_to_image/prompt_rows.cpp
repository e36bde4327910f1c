// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/prompt_rows.h"

#include <algorithm>

namespace rtlynx {

torch::Tensor stacked(const std::vector<PromptFeatures>& features, const char* name) {
  std::vector<torch::Tensor> rows;
  for (const PromptFeatures& prompt : features) rows.push_back(prompt.at(name));
  return torch::stack(rows);
}

PromptRows padded(const std::vector<PromptFeatures>& features, const char* name) {
  PromptRows result;
  for (const PromptFeatures& prompt : features) result.lengths.push_back(prompt.at(name).size(0));
  const std::int64_t longest = *std::max_element(result.lengths.begin(), result.lengths.end());
  std::vector<torch::Tensor> rows;
  for (const PromptFeatures& prompt : features) {
    const torch::Tensor& own = prompt.at(name);
    rows.push_back(torch::constant_pad_nd(own, {0, 0, 0, longest - own.size(0)}));
  }
  result.rows = torch::stack(rows);
  return result;
}

torch::Tensor rounded_time(const DenoiserInput& input, const torch::TensorOptions& options) {
  return torch::full({input.latents.size(0)}, 1000 * static_cast<float>(input.sigma),
                     options.dtype(torch::kFloat32))
             .to(options.dtype()) /
         1000;
}

}  // namespace rtlynx
