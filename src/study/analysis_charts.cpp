// SPDX-License-Identifier: Apache-2.0
#include "study/analysis_charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "io/json.h"
#include "plot/bar_chart.h"
#include "plot/line_chart.h"

namespace rtlynx {
namespace {

using Json = nlohmann::json;

constexpr double kThinBar = 6;

constexpr std::array<std::pair<const char*, const char*>, 4> kTreatments = {
    {{"weight_magnitude", "weights, magnitude"},
     {"weight_wanda", "weights, Wanda"},
     {"activation_naive", "activations, naive"},
     {"activation_norm", "activations, norm"}}};

// "single_transformer_blocks.3.attn.to_q" is s3.attn.to_q; a double block's is d3....
std::string short_name(std::string_view layer) {
  constexpr std::string_view kSingle = "single_transformer_blocks.",
                             kDouble = "transformer_blocks.";
  for (const auto& [prefix, letter] : {std::pair{kSingle, "s"}, std::pair{kDouble, "d"}}) {
    if (layer.starts_with(prefix)) return letter + std::string(layer.substr(prefix.size()));
  }
  return std::string(layer);
}

std::string subtitle(const Json& analysis) {
  return fmt::format("{}, {} captions, {} steps", analysis.at("model").get<std::string>(),
                     analysis.at("prompts").get<int>(), analysis.at("steps").get<int>());
}

// Mean over entries of their densities.
std::vector<double> mean_density(const Json& entries) {
  std::vector<double> mean;
  for (const Json& entry : entries) {
    const auto density = entry.at("distribution").at("density").get<std::vector<double>>();
    mean.resize(density.size());
    for (std::size_t i = 0; i < density.size(); ++i) {
      mean[i] += density[i] / static_cast<double>(entries.size());
    }
  }
  return mean;
}

LineChart distribution_chart(const Json& analysis) {
  LineChart chart{.title = "Values within a token, and within a row of a weight",
                  .subtitle = subtitle(analysis) + "; mean over layers",
                  .x_axis = "value relative to the root mean square",
                  .y_axis = "density"};
  const auto edges = analysis.at("edges").get<std::vector<double>>();
  std::vector<double> gaussian;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    const double x = (edges[i] + edges[i + 1]) / 2;
    chart.x.push_back(x);
    gaussian.push_back(std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi));
  }
  chart.series = {{"weights", mean_density(analysis.at("layers"))},
                  {"activations", mean_density(analysis.at("inputs"))},
                  {"Gaussian", gaussian}};
  return chart;
}

BarChart kept_energy_chart(const Json& analysis) {
  BarChart chart{.title = "Energy that the 2 largest of every 4 keep",
                 .subtitle = subtitle(analysis) + "; the line is a Gaussian's",
                 .axis = "share of the squared norm",
                 .series = {"weight", "its input"},
                 .reference = analysis.at("gaussian_kept_energy").get<double>(),
                 .bar_width = kThinBar};
  std::map<std::string, double> inputs;
  for (const Json& input : analysis.at("inputs")) {
    inputs[input.at("name")] = input.at("distribution").at("kept_energy");
  }
  for (const Json& layer : analysis.at("layers")) {
    chart.groups.push_back({short_name(layer.at("name").get<std::string>()),
                            {layer.at("distribution").at("kept_energy").get<double>(),
                             inputs.at(layer.at("input").get<std::string>())}});
  }
  return chart;
}

BarChart error_chart(const Json& analysis) {
  BarChart chart{.title = "Relative error of each layer's output",
                 .subtitle = subtitle(analysis) + "; one layer sparse at a time, no compensation",
                 .axis = "relative error",
                 .reference = {},
                 .bar_width = kThinBar};
  for (const auto& [key, label] : kTreatments) chart.series.emplace_back(label);
  for (const Json& layer : analysis.at("layers")) {
    BarChart::Group& group = chart.groups.emplace_back();
    group.label = short_name(layer.at("name").get<std::string>());
    for (const auto& [key, label] : kTreatments) {
      const Json& total = layer.at("errors").at(key).at("total");  // null: nothing to compare with
      group.values.push_back(total.is_null() ? std::nullopt : std::optional(total.get<double>()));
    }
  }
  return chart;
}

LineChart step_chart(const Json& analysis) {
  LineChart chart{.title = "Relative error over the steps",
                  .subtitle = subtitle(analysis) + "; root mean square over layers",
                  .x_axis = "step, from noise to picture",
                  .y_axis = "relative error"};
  for (int i = 0; i < analysis.at("steps").get<int>(); ++i) chart.x.push_back(i + 1);
  for (const auto& [key, label] : kTreatments) {
    const Json& errors = analysis.at("errors_by_step").at(key);
    if (std::any_of(errors.begin(), errors.end(), [](const Json& e) { return e.is_null(); }))
      continue;
    chart.series.push_back({label, errors.get<std::vector<double>>()});
  }
  return chart;
}

}  // namespace

std::vector<NamedChart> analysis_charts(const Json& analysis, const std::string& where) {
  try {
    return {{"distribution", to_svg(distribution_chart(analysis))},
            {"kept-energy", to_svg(kept_energy_chart(analysis))},
            {"error-by-layer", to_svg(error_chart(analysis))},
            {"error-by-step", to_svg(step_chart(analysis))}};
  } catch (const Json::exception& error) {
    fail(where, "a report of rtlynx analyze", "another: " + json_complaint(error));
  } catch (const std::exception& error) {
    fail(where, "a report of rtlynx analyze", std::string("another: ") + error.what());
  }
}

}  // namespace rtlynx
