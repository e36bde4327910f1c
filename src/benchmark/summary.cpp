// SPDX-License-Identifier: Apache-2.0
#include "benchmark/summary.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>
#include <vector>

namespace rtlynx::benchmark {
namespace {

using nlohmann::ordered_json;

constexpr double kSmallestShare = 0.001;

constexpr Ratio kRatios[] = {
    {"gemm_over_cublaslt_burst", "gemm", "rtlynx", "cublaslt", Mode::burst},
    {"gemm_over_cublaslt_sustained", "gemm", "rtlynx", "cublaslt", Mode::sustained},
    {"gemm_over_cusparselt_burst", "gemm", "rtlynx", "cusparselt", Mode::burst},
    {"gemm_over_cusparselt_sustained", "gemm", "rtlynx", "cusparselt", Mode::sustained},
    {"pack_over_cusparselt_compress", "pack", "rtlynx", "cusparselt", Mode::burst},
    {"linear_over_dense_burst", "linear", "rtlynx", "cublaslt", Mode::burst},
    {"linear_over_dense_sustained", "linear", "rtlynx", "cublaslt", Mode::sustained},
    {"fused_over_dense_burst", "fused", "rtlynx", "cublaslt", Mode::burst},
    {"fused_over_dense_sustained", "fused", "rtlynx", "cublaslt", Mode::sustained},
    {"fp8_gemm_over_cublaslt_burst", "e4m3", "rtlynx", "cublaslt", Mode::burst},
    {"fp8_gemm_over_cublaslt_sustained", "e4m3", "rtlynx", "cublaslt", Mode::sustained},
    {"fp8_gemm_over_bf16_burst", "e4m3", "rtlynx", "bf16", Mode::burst},
    {"fp8_linear_over_dense_fp8_burst", "e4m3", "linear", "cublaslt linear", Mode::burst},
    {"fp8_linear_over_dense_bf16_burst", "e4m3", "linear", "cublaslt bf16 linear", Mode::burst},
    {"weight_gemm_over_cublaslt_burst", "weight", "rtlynx", "cublaslt", Mode::burst},
    {"weight_gemm_over_cublaslt_sustained", "weight", "rtlynx", "cublaslt", Mode::sustained},
    {"weight_linear_over_dense_burst", "weight", "linear", "cublaslt linear", Mode::burst},
    {"fp8_weight_gemm_over_cublaslt_burst", "e4m3-weight", "rtlynx", "cublaslt", Mode::burst},
    {"fp8_weight_gemm_over_cublaslt_sustained", "e4m3-weight", "rtlynx", "cublaslt",
     Mode::sustained},
    {"fp8_weight_linear_over_dense_fp8_burst", "e4m3-weight", "linear", "cublaslt linear",
     Mode::burst},
};

using Value = std::function<std::optional<double>(const ShapeResult&)>;

struct Mean {
  std::optional<double> value;
  std::string missing;
};

Mean geometric_mean(const std::vector<const ShapeResult*>& shapes, const Value& value) {
  double sum_of_logs = 0;
  for (const ShapeResult* shape : shapes) {
    const std::optional<double> factor = value(*shape);
    if (!factor) return {std::nullopt, "not measured for " + shape->shape.name};
    sum_of_logs += std::log(*factor);
  }
  if (shapes.empty()) return {std::nullopt, "none of its shapes was run"};
  return {std::exp(sum_of_logs / static_cast<double>(shapes.size())), ""};
}

std::vector<const ShapeResult*> shapes_where(
    const RunResult& run, const std::function<bool(const ShapeResult&)>& wanted) {
  std::vector<const ShapeResult*> chosen;
  for (const ShapeResult& result : run.shapes) {
    if (wanted(result)) chosen.push_back(&result);
  }
  return chosen;
}

std::vector<const ShapeResult*> packed_of(std::vector<const ShapeResult*> shapes) {
  std::erase_if(shapes, [](const ShapeResult* result) {
    return result->linear.config.path == gpu::Gemm24Config::Path::dense;
  });
  return shapes;
}

bool has_producer(const ShapeResult& result) { return result.shape.producer != Producer::none; }

Value at_least(double smallest, const Value& value) {
  return [=](const ShapeResult& result) {
    const std::optional<double> share = value(result);
    return share ? std::optional<double>(std::max(*share, smallest)) : std::nullopt;
  };
}

std::size_t shapes_in_pass(const std::string& model) {
  std::size_t count = 0;
  for (const Shape& shape : shapes_of("bench")) {
    count += shape.in_pass && shape.model == model ? 1 : 0;
  }
  return count;
}

// Milliseconds of one forward pass in the layers that the recipe of one model runs 2:4-sparse.
ordered_json total(const std::vector<const ShapeResult*>& shapes, const Ratio& ratio) {
  double ours = 0, rival = 0;
  for (const ShapeResult* result : shapes) {
    const Timing* const own = result->find(ratio.section, ratio.ours);
    const Timing* const other = result->find(ratio.section, ratio.rival);
    if (own == nullptr || other == nullptr) return nullptr;
    ours += result->shape.count * microseconds(*own, ratio.mode) / 1e3;
    rival += result->shape.count * microseconds(*other, ratio.mode) / 1e3;
  }
  return {{"ratio", rival / ours}, {"rtlynx_ms", ours}, {"rival_ms", rival}};
}

/// Sections e4m3, weight and e4m3-weight are there for who asks: without them, their ratios are not
/// missing.
bool concerns(const RunResult& run, const Ratio& ratio) {
  constexpr std::string_view kOnRequest[] = {"e4m3", "weight", "e4m3-weight"};
  const auto has_section = [&](const ShapeResult& result) {
    return std::any_of(result.sections.begin(), result.sections.end(),
                       [&](const Section& section) { return section.name == ratio.section; });
  };
  return std::find(std::begin(kOnRequest), std::end(kOnRequest), ratio.section) ==
             std::end(kOnRequest) ||
         std::any_of(run.shapes.begin(), run.shapes.end(), has_section);
}

ordered_json totals_per_model(const RunResult& run) {
  ordered_json totals = ordered_json::object();
  for (const ShapeResult& first : run.shapes) {
    const std::string& model = first.shape.model;
    if (!first.shape.in_pass || totals.contains(model)) continue;
    const auto shapes = shapes_where(run, [&](const ShapeResult& result) {
      return result.shape.in_pass && result.shape.model == model;
    });
    if (shapes.size() != shapes_in_pass(model)) continue;
    for (const Ratio& ratio : kRatios) {
      if (concerns(run, ratio)) totals[model][ratio.name] = total(shapes, ratio);
    }
  }
  return totals;
}

}  // namespace

double microseconds(const Timing& timing, Mode mode) {
  return mode == Mode::burst ? timing.burst.median : timing.sustained.median;
}

std::span<const Ratio> ratios() { return kRatios; }

std::optional<double> ratio_of(const ShapeResult& result, const Ratio& ratio) {
  const Timing* const ours = result.find(ratio.section, ratio.ours);
  const Timing* const rival = result.find(ratio.section, ratio.rival);
  if (ours == nullptr || rival == nullptr) return std::nullopt;
  return microseconds(*rival, ratio.mode) / microseconds(*ours, ratio.mode);
}

std::optional<double> overhead_share(const ShapeResult& result) {
  const Timing* const linear = result.find("linear", "rtlynx");
  const Timing* const gemm = result.find("linear", "gemm");
  if (linear == nullptr || gemm == nullptr) return std::nullopt;
  return (linear->burst.median - gemm->burst.median) / linear->burst.median;
}

std::optional<double> fused_overhead_share(const ShapeResult& result) {
  const Timing* const linear = result.find("fused", "rtlynx");
  const Timing* const pack = result.find("fused", "pack");
  const Timing* const producer = result.find("fused", "producer");
  if (linear == nullptr || pack == nullptr || producer == nullptr) return std::nullopt;
  return (pack->burst.median - producer->burst.median) / linear->burst.median;
}

double pack_bytes(const Shape& shape) {
  constexpr double kBytesPerElement = 2 + 1 + 0.125;
  return kBytesPerElement * static_cast<double>(shape.tokens) * static_cast<double>(shape.channels);
}

std::optional<double> pack_share_of_copy(const ShapeResult& result, double copy_bytes_per_second,
                                         Mode mode) {
  const Timing* const pack = result.find("pack", "rtlynx");
  if (pack == nullptr) return std::nullopt;
  const double seconds = microseconds(*pack, mode) * 1e-6;
  return pack_bytes(result.shape) / seconds / copy_bytes_per_second;
}

ordered_json summarize(const RunResult& run) {
  const auto in_mean =
      shapes_where(run, [](const ShapeResult& result) { return result.shape.in_mean; });
  const auto produced = shapes_where(
      run, [](const ShapeResult& result) { return result.shape.in_mean && has_producer(result); });
  ordered_json summary = ordered_json::object(), missing = ordered_json::object();
  const auto add = [&](const char* name, const Mean& mean) {
    summary[name] = mean.value ? ordered_json(*mean.value) : ordered_json(nullptr);
    if (!mean.value) missing[name] = mean.missing;
  };
  for (const Ratio& ratio : kRatios) {
    if (!concerns(run, ratio)) continue;
    const bool fused = std::string_view(ratio.section) == "fused";
    add(ratio.name, geometric_mean(fused ? produced : in_mean, [&](const ShapeResult& result) {
          return ratio_of(result, ratio);
        }));
  }
  add("overhead_share",
      geometric_mean(packed_of(in_mean), at_least(kSmallestShare, overhead_share)));
  add("fused_overhead_share",
      geometric_mean(packed_of(produced), at_least(kSmallestShare, fused_overhead_share)));
  summary["shapes_in_mean"] = in_mean.size();
  summary["missing"] = std::move(missing);
  summary["totals"] = totals_per_model(run);
  summary["gpu"] = run.gpu;
  summary["date"] = run.date;
  return summary;
}

}  // namespace rtlynx::benchmark
