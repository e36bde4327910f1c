// SPDX-License-Identifier: Apache-2.0
#include "cli/generate_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/error.h"
#include "base/number.h"
#include "compensate/compensation_file.h"
#include "compensate/fold_transform.h"
#include "io/text.h"

namespace rtlynx::cli {

PictureSize parse_size(const std::string& text) {
  const std::size_t cross = std::min(text.find('x'), text.size());
  const auto width = parse_whole_number<int>(std::string_view(text).substr(0, cross));
  const auto height =
      parse_whole_number<int>(std::string_view(text).substr(std::min(cross + 1, text.size())));
  if (!width || !height) {
    throw UsageError("--size: required WIDTHxHEIGHT such as 64x64, got " + in_quotes(text));
  }
  return {*width, *height};
}

Treatment of_mode(LinearMode mode) {
  return {.name = std::string(to_string(mode)), .set_layers = set_recipe_to(mode)};
}

Treatment of_file(const std::string& file) {
  const ModelCompensation compensation = read_compensation(file);
  const std::string name = fmt::format("{} (transform {}, rank {})", compensation.method,
                                       compensation.transform, compensation.rank);
  return {.name = name,
          .set_layers = [compensation, file](torch::nn::Module& transformer,
                                             const std::vector<LayerGroup>& groups) {
            apply_compensation(transformer, compensation, file);
            fold_transforms(transformer, groups);
          }};
}

std::string compensation_of(const GenerateOptions& options) {
  if (!options.compensation.empty() || options.mode) return options.compensation;
  const std::filesystem::path own = options.model.model_folder() / "compensation.safetensors";
  return std::filesystem::exists(own) ? own.string() : std::string();
}

Treatment choose_treatment(const GenerateOptions& options) {
  const std::string file = compensation_of(options);
  if (!file.empty()) return of_file(file);
  const LinearMode mode = linear_mode_from_string(options.mode.value_or("norm"));
  if (options.compare && mode == LinearMode::dense) {
    throw UsageError("--compare: required a sparse --mode to set beside dense, got dense");
  }
  return of_mode(mode);
}

}  // namespace rtlynx::cli
