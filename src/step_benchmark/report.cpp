// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/report.h"

#include <fmt/format.h>

#include "base/error.h"
#include "benchmark/results.h"

namespace rtlynx::step_benchmark {
namespace {

using nlohmann::ordered_json;

constexpr double kWorstOverPlain = 2.0;

ordered_json describe(const VariantResult& result) {
  const StepVariant& variant = result.variant;
  ordered_json row = {{"name", variant.name},
                      {"rank", variant.sparse ? variant.rank : 0},
                      {"transform_block", variant.transform_block},
                      {"e4m3", variant.e4m3},
                      {"sparse_weights", variant.weights},
                      {"ms", result.median_ms()},
                      {"ms_rounds", result.ms},
                      {"activations_gib", result.activations_gib},
                      {"ms_by_class", result.ms_by_class},
                      {"sparse_layers", result.sparse_layers}};
  if (result.distances) {
    row["distance_to_fp32"] = result.distances->fused;
    row["distance_of_plain_path_to_fp32"] = result.distances->plain;
  }
  return row;
}

}  // namespace

double VariantResult::median_ms() const { return benchmark::spread_of(ms).median; }

ordered_json to_json(const StepResult& result) {
  ordered_json variants = ordered_json::array();
  for (const VariantResult& variant : result.variants) variants.push_back(describe(variant));
  return {{"family", result.family},
          {"gpu", result.gpu},
          {"date", result.date},
          {"dtype", "bf16"},
          {"image_tokens", result.tokens.image},
          {"text_tokens", result.tokens.text},
          {"side", result.side},
          {"batch", result.batch},
          {"blocks", result.checked.all},
          {"blocks_compared_with_fp32", result.checked.run},
          {"weights_gib", result.weights_gib},
          {"variants", std::move(variants)}};
}

std::string to_text(const StepResult& result) {
  std::string text = fmt::format(
      "{}, {}, bf16; a step of {}: {} image and {} text tokens, batch {}\n", result.gpu,
      result.date, result.family, result.tokens.image, result.tokens.text, result.batch);
  for (const VariantResult& variant : result.variants) {
    text += fmt::format("{:14} {:8.2f} ms, {} sparse layers, {:.1f} GiB;", variant.variant.name,
                        variant.median_ms(), variant.sparse_layers.size(),
                        result.weights_gib + variant.activations_gib);
    for (const auto& [kind, ms] : variant.ms_by_class) text += fmt::format(" {} {:.1f}", kind, ms);
    if (variant.distances) {
      text += fmt::format("; {:.4f} from fp32, the plain path {:.4f}", variant.distances->fused,
                          variant.distances->plain);
      if (result.checked.run < result.checked.all) {
        text += fmt::format(" ({} of {} blocks)", result.checked.run, result.checked.all);
      }
    }
    text += "\n";
  }
  return text;
}

ordered_json last_round(const StepResult& result) {
  ordered_json round = ordered_json::object();
  for (const VariantResult& variant : result.variants) {
    round[variant.variant.name] = variant.ms.back();
  }
  return round;
}

void refuse_wrong(const StepResult& result) {
  for (const VariantResult& variant : result.variants) {
    if (!variant.distances) continue;
    const auto& [fused, plain] = *variant.distances;
    if (fused <= kWorstOverPlain * plain) continue;  // not for NaN
    fail("bench --step, " + variant.variant.name,
         fmt::format("at most {} from fp32, twice the plain path", kWorstOverPlain * plain),
         fmt::format("{}", fused));
  }
}

}  // namespace rtlynx::step_benchmark
