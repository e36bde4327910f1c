// SPDX-License-Identifier: Apache-2.0
#include "study/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "io/base64.h"
#include "io/json.h"
#include "io/png.h"
#include "mini/caption_accuracy.h"
#include "pipeline/comparison.h"
#include "plot/bar_chart.h"
#include "plot/line_chart.h"
#include "plot/svg.h"
#include "study/analysis_charts.h"

namespace rtlynx {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kStyle =
    "body{font-family:sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:4px 10px;border-bottom:1px solid #ddd;text-align:right}"
    "th:first-child,td:first-child,.left{text-align:left}"
    "small{color:#666}td small{display:block;white-space:nowrap}dt{font-weight:bold}dd{margin:0 0 "
    ".6em 1.2em}"
    ".wide{overflow-x:auto}img{image-rendering:pixelated;width:128px;height:128px;display:block}"
    ".grid td,.grid th{padding:3px;border:0;text-align:center;vertical-align:top;max-width:128px}"
    ".large td,.large th{max-width:256px}.large img{image-rendering:auto;width:256px;height:auto}";

/// A column of the table of methods.
struct Column {
  std::string_view key;
  const char* title;
  int decimals;
  double factor;
};
constexpr Column kColumns[] = {{"relative_cost", "cost", 2, 1},
                               {"velocity_error", "velocity error", 4, 1},
                               {"psnr", "PSNR, dB", 2, 1},
                               {"noise_floor", "PSNR to itself, dB", 2, 1},
                               {"ssim", "SSIM", 3, 1},
                               {"lpips", "LPIPS", 4, 1},
                               {"high_frequency_error", "detail error", 3, 1},
                               {"frechet_distance", "Frechet", 4, 1},
                               {"caption_accuracy", "captions, %", 1, 100}};

std::string text_of(const Json& value) { return escape_markup(value.get<std::string>()); }

std::string element(std::string_view tag, std::string_view content) {
  return fmt::format("<{0}>{1}</{0}>\n", tag, content);
}

// "0.1234" and, in small print, its interval if it has a width; a dash for what is missing or null.
std::string cell(const Json& method, const Column& column) {
  if (!method.contains(column.key) || method.at(column.key).is_null()) return "<td>-</td>";
  const auto number = [&](const Json& value) {
    return fmt::format("{:.{}f}", column.factor * value.get<double>(), column.decimals);
  };
  std::string content = number(method.at(column.key));
  const Json interval = method.value(std::string(column.key) + "_interval", Json());
  const bool known =
      interval.is_array() && interval.at(0).is_number() && interval.at(1).is_number();
  if (known && interval.at(0) != interval.at(1)) {
    content +=
        fmt::format(" <small>{} to {}</small>", number(interval.at(0)), number(interval.at(1)));
  }
  return "<td>" + content + "</td>";
}

// Of a model of diffusers, by prompts of the user's.
bool of_prompts(const Json& evaluation) { return evaluation.contains("pictures"); }

// Of any method; it may be null.
bool was_measured(const Json& evaluation, std::string_view score) {
  const Json& methods = evaluation.at("methods");
  return std::any_of(methods.begin(), methods.end(),
                     [&](const Json& method) { return method.contains(score); });
}

std::string facts(const Json& evaluation) {
  std::string rows;
  const auto add = [&](std::string_view name, const std::string& value) {
    rows += fmt::format("<tr><td>{}</td><td class=\"left\">{}</td></tr>\n", name, value);
  };
  add("model", fmt::format("{}, {} parameters", text_of(evaluation.at("model")),
                           evaluation.at("parameters").get<std::int64_t>()));
  if (of_prompts(evaluation)) {
    add("pictures",
        fmt::format("of {} prompts, {}x{}, {} steps, guidance {:g}, true CFG {:g}",
                    evaluation.at("prompts").get<int>(), evaluation.at("width").get<int>(),
                    evaluation.at("height").get<int>(), evaluation.at("steps").get<int>(),
                    evaluation.at("guidance").get<double>(),
                    evaluation.at("true_cfg").get<double>()));
  } else {
    add("pictures",
        fmt::format("{} held-out captions (seed {}), {} steps, guidance {:g}",
                    evaluation.at("prompts").get<int>(),
                    evaluation.at("prompt_seed").get<std::uint64_t>(),
                    evaluation.at("steps").get<int>(), evaluation.at("guidance").get<double>()));
  }
  if (was_measured(evaluation, "velocity_error")) {
    add("velocity error",
        fmt::format("over the first {} of them", evaluation.at("velocity_prompts").get<int>()));
  }
  if (evaluation.contains("calibration")) {
    add("calibration",
        fmt::format("{} training captions", evaluation.at("calibration").at("prompts").get<int>()));
  }
  add("computed by",
      fmt::format("rtlynx {}, {}, {}", text_of(evaluation.at("rtlynx")),
                  text_of(evaluation.at("device")), text_of(evaluation.at("dtype"))));
  return element("table", rows);
}

std::vector<Column> columns_of(const Json& evaluation) {
  std::vector<Column> columns(std::begin(kColumns), std::end(kColumns));
  std::erase_if(columns,
                [&](const Column& column) { return !was_measured(evaluation, column.key); });
  return columns;
}

std::string method_table(const Json& evaluation) {
  const std::vector<Column> columns = columns_of(evaluation);
  std::string head = "<th>method</th><th class=\"left\">kind</th>";
  for (const Column& column : columns) head += fmt::format("<th>{}</th>", column.title);
  std::string rows = element("tr", head);
  for (const Json& method : evaluation.at("methods")) {
    std::string row = fmt::format("<td title=\"{}\">{}</td><td class=\"left\">{}</td>",
                                  text_of(method.at("description")), text_of(method.at("name")),
                                  text_of(method.at("kind")));
    for (const Column& column : columns) row += cell(method, column);
    rows += element("tr", row);
  }
  return "<div class=\"wide\">" + element("table", rows) + "</div>\n";
}

std::string how_to_read(const Json& evaluation) {
  std::string list;
  const auto add = [&](std::string_view term, const std::string& meaning) {
    list += fmt::format("<dt>{}</dt><dd>{}</dd>\n", term, meaning);
  };
  add("cost",
      "Multiplications of the sparsified layers relative to dense ones, on paper. Choosing, "
      "permuting and scaling are not counted, and no time was measured.");
  if (was_measured(evaluation, "velocity_error")) {
    add("velocity error",
        "Relative L2 error of the transformer's output, before guidance, on the inputs that the "
        "dense model met from noise to picture.");
  }
  add("PSNR, SSIM, detail error",
      "Against the dense model's picture from the same noise; detail error is the relative error "
      "of the Laplacian. PSNR is the mean over pictures that differ.");
  if (evaluation.contains("lpips_network")) {
    add("LPIPS", fmt::format("Learned perceptual distance (Zhang et al. 2018, {}) to the dense "
                             "model's picture; 0 for equal pictures.",
                             text_of(evaluation.at("lpips_network"))));
  }
  if (evaluation.contains("noise_floor_batch")) {
    add("PSNR to itself",
        fmt::format(
            "Of the method's pictures against its own, drawn with another rounding, {} in a "
            "batch: differences above it are not the method's. A dash: equal pictures.",
            evaluation.at("noise_floor_batch").get<int>()));
  }
  if (was_measured(evaluation, "frechet_distance")) {
    add("Frechet",
        fmt::format("Distance of all pictures from the drawn scenes of the same captions, in the "
                    "features of {}: ours, not Inception's. It cannot be compared with a published "
                    "FID, and it falls with the number of pictures.",
                    text_of(evaluation.at("frechet_features"))));
  }
  if (was_measured(evaluation, "caption_accuracy")) {
    add("captions",
        "Pictures in which every item has its shape (or word), colour and position, and nothing "
        "else is drawn.");
  }
  add("small print", "95 % intervals, bootstrapped over prompts.");
  std::string methods;
  for (const Json& method : evaluation.at("methods")) {
    methods += fmt::format("<dt>{}</dt><dd>{}: {}</dd>\n", text_of(method.at("name")),
                           text_of(method.at("kind")), text_of(method.at("description")));
  }
  return element("dl", list) + element("h3", "Methods") + element("dl", methods);
}

// Those that have one: without a dense velocity to compare with it is null.
std::vector<const Json*> methods_with_velocity(const Json& evaluation) {
  std::vector<const Json*> methods;
  for (const Json& method : evaluation.at("methods")) {
    if (!method.contains("velocity_error") || method.at("kind") == "dense") continue;
    const Json& by_step = method.at("velocity_error_by_step");
    const bool whole = method.at("velocity_error").is_number() &&
                       std::all_of(by_step.begin(), by_step.end(),
                                   [](const Json& error) { return error.is_number(); });
    if (whole) methods.push_back(&method);
  }
  return methods;
}

std::string velocity_charts(const Json& evaluation) {
  std::vector<const Json*> methods = methods_with_velocity(evaluation);
  if (methods.empty()) return {};
  BarChart bars{.title = "Velocity error",
                .subtitle = "relative to the dense model; less is better",
                .axis = "relative error",
                .series = {"velocity error"},
                .reference = {},
                .bar_width = 22};
  for (const Json* method : methods) {
    bars.groups.push_back(
        {method->at("name").get<std::string>(), {method->at("velocity_error").get<double>()}});
  }
  std::stable_sort(methods.begin(), methods.end(), [](const Json* a, const Json* b) {
    return a->at("velocity_error").get<double>() < b->at("velocity_error").get<double>();
  });
  constexpr std::size_t kCurves = 4;
  methods.resize(std::min(methods.size(), kCurves));
  LineChart curves{.title = "Velocity error over the steps",
                   .subtitle = "of the methods with the least error",
                   .x_axis = "step, from noise to picture",
                   .y_axis = "relative error"};
  for (int i = 0; i < evaluation.at("steps").get<int>(); ++i) curves.x.push_back(i + 1);
  for (const Json* method : methods) {
    curves.series.push_back({method->at("name").get<std::string>(),
                             method->at("velocity_error_by_step").get<std::vector<double>>()});
  }
  return element("h2", "Velocity error") + element("div", to_svg(bars)) +
         element("div", to_svg(curves));
}

// What the first `count` pictures are to show.
std::vector<std::string> captions_of(const Json& evaluation, std::size_t count) {
  if (!of_prompts(evaluation)) {
    return make_caption_suite(static_cast<int>(count),
                              evaluation.at("prompt_seed").get<std::uint64_t>())
        .captions;
  }
  std::vector<std::string> prompts;
  for (std::size_t i = 0; i < count; ++i) {
    prompts.push_back(evaluation.at("pictures").at(i).at("prompt").get<std::string>());
  }
  return prompts;
}

// A page of full pictures would be too large to open: at most 512 pixels a side, means of squares.
Image small(const Image& picture) {
  constexpr int kSide = 512;
  const int square = (std::max(picture.width, picture.height) + kSide - 1) / kSide;
  return square == 1 ? picture : reduce(picture, square);
}

std::string picture_grid(const ReportParts& parts) {
  std::size_t columns = 0;
  for (const auto& [method, pictures] : parts.pictures) {
    columns = std::max(columns, pictures.size());
  }
  if (columns == 0) return {};
  const std::vector<std::string> captions = captions_of(parts.evaluation, columns);
  std::string head = "<th></th>";
  for (const std::string& caption : captions) {
    head += fmt::format("<th><small>{}</small></th>", escape_markup(caption));
  }
  std::string rows = element("tr", head);
  for (const Json& method : parts.evaluation.at("methods")) {
    const auto found = parts.pictures.find(method.at("name").get<std::string>());
    if (found == parts.pictures.end()) continue;
    std::string row = element("th", text_of(method.at("name")));
    for (std::size_t i = 0; i < found->second.size(); ++i) {
      row += fmt::format("<td><img alt=\"{}: {}\" src=\"data:image/png;base64,{}\"/></td>",
                         text_of(method.at("name")), escape_markup(captions[i]),
                         to_base64(encode_png(small(found->second[i]))));
    }
    rows += element("tr", row);
  }
  const char* const grid = of_prompts(parts.evaluation) ? "grid large" : "grid";
  return element("h2", "Pictures") +
         element("p", "One row per method, one column per caption, all from the same noise.") +
         "<div class=\"wide\"><table class=\"" + grid + "\">" + rows + "</table></div>\n";
}

std::string input_table(const Json& evaluation) {
  if (!evaluation.contains("inputs")) return {};
  std::string rows = element("tr",
                             "<th>input</th><th>channels</th><th>effective rank</th>"
                             "<th>participation ratio</th>");
  for (const Json& input : evaluation.at("inputs")) {
    rows += element("tr",
                    fmt::format("<td>{}</td><td>{}</td><td>{:.1f}</td><td>{:.1f}</td>",
                                text_of(input.at("name")), input.at("channels").get<std::int64_t>(),
                                input.at("effective_rank").get<double>(),
                                input.at("participation_ratio").get<double>()));
  }
  return element("h2", "How many directions the inputs use") +
         element("p",
                 "Where an input uses few of its channels' directions, a fixed choice of them does "
                 "well: what holds for such a model need not hold for a wide one.") +
         element("table", rows);
}

std::string analysis_section(const Json& analysis, const std::string& where) {
  if (analysis.is_null()) return {};
  std::string section = element("h2", "Weights and activations");
  for (const NamedChart& chart : analysis_charts(analysis, where)) {
    section += "<div class=\"wide\">" + chart.svg + "</div>\n";
  }
  return section;
}

std::string page(const ReportParts& parts) {
  const Json& evaluation = parts.evaluation;
  const std::string title = "rtlynx on " + text_of(evaluation.at("model"));
  const std::string body = element("h1", title) + facts(evaluation) + element("h2", "Methods") +
                           method_table(evaluation) + picture_grid(parts) +
                           velocity_charts(evaluation) + element("h2", "How to read this") +
                           how_to_read(evaluation) + input_table(evaluation) +
                           analysis_section(parts.analysis, parts.analysis_file);
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n" +
         element("title", title) + element("style", kStyle) + "</head>\n" + element("body", body) +
         "</html>\n";
}

[[noreturn]] void refuse(const std::string& where, const Json::exception& error) {
  fail(where, "a report of rtlynx evaluate", "another: " + json_complaint(error));
}

}  // namespace

std::vector<std::string> reported_methods(const Json& evaluation, const std::string& where) {
  try {
    std::vector<std::string> names;
    for (const Json& method : evaluation.at("methods")) names.push_back(method.at("name"));
    return names;
  } catch (const Json::exception& error) {
    refuse(where, error);
  }
}

std::string make_report(const ReportParts& parts, const std::string& where) {
  try {
    return page(parts);
  } catch (const Json::exception& error) {
    refuse(where, error);
  }
}

}  // namespace rtlynx
