// SPDX-License-Identifier: Apache-2.0
#include "cli/picture_texts.h"

#include <fmt/format.h>

#include "rtlynx/version.h"

namespace rtlynx::cli {

std::vector<PngText> picture_texts(const nlohmann::ordered_json& facts) {
  const auto text = [&](const char* key) { return facts.at(key).get<std::string>(); };
  std::string parameters = text("prompt");
  // Readers know one strength of guidance.
  const char* const guidance = facts.contains("negative") ? "true_cfg" : "guidance";
  if (facts.contains("negative")) parameters += "\nNegative prompt: " + text("negative");
  parameters += fmt::format(
      "\nSteps: {}, Sampler: Euler, CFG scale: {}, Seed: {}, Size: {}x{}, Model: {}, Version: "
      "rtlynx {}",
      facts.at("steps").dump(), facts.at(guidance).get<double>(), facts.at("seed").dump(),
      facts.at("width").dump(), facts.at("height").dump(), text("model"), version());
  nlohmann::ordered_json own = facts;
  own["version"] = version();
  constexpr int kOneLine = -1;
  return {{"parameters", parameters},
          {"rtlynx", own.dump(kOneLine, ' ', /*ensure_ascii=*/true)},
          {"Software", std::string("rtlynx ") + version()}};
}

}  // namespace rtlynx::cli
