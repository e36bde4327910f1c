// SPDX-License-Identifier: Apache-2.0
#include "cli/product_choice.h"

#include <algorithm>

#include "base/error.h"
#include "benchmark/shapes.h"
#include "io/text.h"
#include "kernels/gemm/select.h"
#include "options/number.h"
#include "study/method_costs.h"

namespace rtlynx::cli {
namespace {

constexpr gpu::DeviceTraits kH200{.compute_capability = gpu::kH200.compute_capability,
                                  .multiprocessors = gpu::kH200.multiprocessors,
                                  .shared_bytes = gpu::kSm90SharedBytes};

DType parse_dtype(const std::string& name) {
  if (name == "f16") return DType::f16;
  return name == "fp32" ? DType::f32 : DType::bf16;
}

gpu::Gemm24Shape parse_shape(const std::string& text, const ProductOptions& options) {
  constexpr std::int64_t kLargest = 1 << 30;  // costs and bytes of products of two fit 64 bits
  const auto sizes = benchmark::parse_sizes(text);
  if (!sizes || *std::max_element(sizes->begin(), sizes->end()) > kLargest) {
    throw UsageError("--shape: required M,N,K such as 4608,12288,3072, each from 1 to 2^30, got " +
                     in_quotes(text));
  }
  const auto [tokens, outputs, channels] = *sizes;
  return {.tokens = tokens,
          .outputs = outputs,
          .channels = channels,
          .rank = options.rank,
          .dtype = parse_dtype(options.dtype)};
}

gpu::DeviceTraits current_device() {
#if RTLYNX_GPU_KERNELS
  return gpu::current_device();
#else
  fail("--gpu current", "a build with GPU kernels", "one without them");
#endif
}

struct Gpu {
  std::string name;
  gpu::DeviceTraits traits;
};

Gpu choose_gpu(const std::string& name) {
  if (name == "h200") return {"H200", kH200};
  if (name == "current") return {"current device", current_device()};
  try {
    return {"current device", current_device()};
  } catch (const Error&) {
    return {"H200, assumed: no GPU can be used here", kH200};
  }
}

nlohmann::ordered_json describe_gpu(const Gpu& gpu) {
  return {{"name", gpu.name},
          {"compute_capability", gpu.traits.compute_capability},
          {"multiprocessors", gpu.traits.multiprocessors},
          {"shared_bytes", gpu.traits.shared_bytes}};
}

nlohmann::ordered_json describe_choice(const gpu::Gemm24Shape& shape,
                                       const gpu::DeviceTraits& traits) {
  const gpu::Gemm24Choice choice = gpu::select_gemm24(shape, traits);
  const gpu::Gemm24Config& config = choice.config;
  nlohmann::ordered_json product = {
      {"tokens", shape.tokens},        {"outputs", shape.outputs},
      {"channels", shape.channels},    {"rank", shape.rank},
      {"dtype", name_of(shape.dtype)}, {"path", gpu::name_of(config.path)}};
  if (config.path == gpu::Gemm24Config::Path::sm90) {
    product["tile"] = {config.tile_tokens, config.tile_outputs};
    product["cluster"] = config.cluster;
    product["group_tiles"] = config.group_tiles;
    product["stream_k"] = config.stream_k;
    product["workspace_bytes"] = gpu::product24_workspace_bytes(config, traits);
  }
  product["reason"] = choice.reason;
  return product;
}

nlohmann::ordered_json describe_costs(const gpu::Gemm24Shape& shape) {
  const LayerWork work{
      .tokens = shape.tokens, .in_features = shape.channels, .out_features = shape.outputs};
  const auto or_null = [](const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
  };
  nlohmann::ordered_json costs = nlohmann::ordered_json::array();
  for (const MethodCost& cost : method_costs(work, shape.rank)) {
    costs.push_back({{"method", cost.method},
                     {"relative_flops", cost.relative_flops},
                     {"us", or_null(cost.us)},
                     {"relative_us", or_null(cost.relative_us)},
                     {"source", cost.source}});
  }
  return costs;
}

}  // namespace

void ProductOptions::add_to(CLI::App& command) {
  CLI::Option* shape =
      command
          .add_option("--shape", shapes,
                      "M,N,K of a product X W^T: show how it would run, and why, instead of the "
                      "model; may be given several times")
          ->allow_extra_args(false);
  command.add_option("--rank", rank, "Low-rank columns of the products")
      ->transform(options::whole_number(0, 1 << 20))
      ->needs(shape)
      ->capture_default_str();
  command.add_option("--dtype", dtype, "Element type of the products")
      ->check(CLI::IsMember({"bf16", "f16", "fp32"}))
      ->needs(shape)
      ->capture_default_str();
  command.add_option("--gpu", gpu, "Where the products would run [auto: here, else on an H200]")
      ->check(CLI::IsMember({"auto", "current", "h200"}))
      ->needs(shape)
      ->capture_default_str();
  command
      .add_flag(
          "--costs", costs,
          "What every kind of method makes of the layer: multiplications, and microseconds as "
          "measured or modelled for an H200 in bf16")
      ->needs(shape);
}

nlohmann::ordered_json ProductOptions::describe() const {
  std::vector<gpu::Gemm24Shape> parsed;
  for (const std::string& text : shapes) parsed.push_back(parse_shape(text, *this));
  const Gpu chosen = choose_gpu(gpu);
  nlohmann::ordered_json products = nlohmann::ordered_json::array();
  for (const auto& shape : parsed) {
    products.push_back(describe_choice(shape, chosen.traits));
    if (costs) products.back()["costs"] = describe_costs(shape);
  }
  return {{"gpu", describe_gpu(chosen)}, {"products", std::move(products)}};
}

}  // namespace rtlynx::cli
