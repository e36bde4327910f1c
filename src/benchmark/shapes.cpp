// SPDX-License-Identifier: Apache-2.0
#include "benchmark/shapes.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace rtlynx::benchmark {
namespace {

constexpr std::int64_t kLargestSize = 1 << 20;
constexpr std::int64_t kWidestBlockInput = 3840;  // hidden size of the widest model here
constexpr std::int64_t kSwigluChannels = 10240;   // Z-Image's MLP

void append(std::vector<Shape>& shapes, std::vector<Shape> more) {
  for (Shape& shape : more) shapes.push_back(std::move(shape));
}

// 1024 x 1024: 4096 image tokens in the double blocks, with 512 text tokens in the single ones.
std::vector<Shape> flux() {
  const std::string model = "FLUX.1-dev";
  return {{model + " qkv", model, 4096, 9216, 3072, 19, true},
          {model + " attention out", model, 4096, 3072, 3072, 19, true},
          {model + " mlp up", model, 4096, 12288, 3072, 19, true},
          {model + " mlp down", model, 4096, 3072, 12288, 19, true},
          {model + " single in", model, 4608, 21504, 3072, 38, true},
          {model + " single out", model, 4608, 3072, 15360, 38, true}};
}

// 1328 x 1328: 83 x 83 tokens, a multiple of nothing.
std::vector<Shape> qwen_image() {
  const std::string model = "Qwen-Image";
  return {{model + " qkv", model, 6889, 9216, 3072, 60, true},
          {model + " attention out", model, 6889, 3072, 3072, 60, true},
          {model + " mlp up", model, 6889, 12288, 3072, 60, true},
          {model + " mlp down", model, 6889, 3072, 12288, 60, true}};
}

// 1024 x 1024 with 128 rows of caption.
std::vector<Shape> z_image() {
  const std::string model = "Z-Image";
  return {{model + " qkv", model, 4224, 11520, 3840, 30, true},
          {model + " attention out", model, 4224, 3840, 3840, 30, true},
          {model + " mlp gate, up", model, 4224, 20480, 3840, 30, true},
          {model + " mlp down", model, 4224, 3840, 10240, 30, true}};
}

std::vector<Shape> paper() {
  return {{"paper 4096 x 4096 x 3072", "", 4096, 4096, 3072},
          {"paper 4096 x 4096 x 12288", "", 4096, 4096, 12288},
          {"paper 8192 x 8192 x 12288", "", 8192, 8192, 12288}};
}

std::vector<Shape> text() {
  std::vector<Shape> shapes;
  for (const std::int64_t tokens : {64, 128, 512}) {
    const std::string prefix = "text " + std::to_string(tokens);
    append(shapes, {{prefix + " qkv", "", tokens, 9216, 3072},
                    {prefix + " mlp up", "", tokens, 12288, 3072},
                    {prefix + " mlp down", "", tokens, 3072, 12288}});
  }
  return shapes;
}

std::vector<Shape> bench() {
  std::vector<Shape> shapes = flux();
  append(shapes, qwen_image());
  append(shapes, z_image());
  return shapes;
}

struct ShapeSet {
  const char* name;
  std::vector<Shape> (*shapes)();
};

constexpr ShapeSet kSets[] = {{"bench", bench},     {"flux", flux},   {"qwen-image", qwen_image},
                              {"z-image", z_image}, {"paper", paper}, {"text", text}};

}  // namespace

const std::vector<std::string>& shape_set_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const ShapeSet& set : kSets) all.emplace_back(set.name);
    return all;
  }();
  return names;
}

std::vector<Shape> shapes_of(std::string_view set) {
  for (const ShapeSet& known : kSets) {
    if (set == known.name) return known.shapes();
  }
  std::string names;
  for (const std::string& name : shape_set_names()) names += (names.empty() ? "" : ", ") + name;
  throw UsageError("shapes: required one of " + names + ", got " + std::string(set));
}

std::optional<std::array<std::int64_t, 3>> parse_sizes(std::string_view text) {
  std::array<std::int64_t, 3> sizes{};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (i > 0 && (at == end || *at++ != ',')) return std::nullopt;
    const auto [after, error] = std::from_chars(at, end, sizes[i]);
    if (error != std::errc{} || sizes[i] < 1) return std::nullopt;
    at = after;
  }
  if (at != end) return std::nullopt;
  return sizes;
}

Shape parse_shape(const std::string& text) {
  const auto sizes = parse_sizes(text);
  if (!sizes || *std::max_element(sizes->begin(), sizes->end()) > kLargestSize ||
      (*sizes)[1] % 8 != 0 || (*sizes)[2] % 16 != 0) {
    throw UsageError(
        "required M,N,K with N a multiple of 8 and K a multiple of 16, each from 1 to 2^20, "
        "got " +
        text);
  }
  const auto [tokens, outputs, channels] = *sizes;
  return {text, "", tokens, outputs, channels};
}

gpu::Producer producer_of(const Shape& shape) {
  if (shape.channels <= kWidestBlockInput) return gpu::Producer::layer_norm;
  return shape.channels == kSwigluChannels ? gpu::Producer::swiglu : gpu::Producer::gelu;
}

const char* name_of(gpu::Producer producer) {
  switch (producer) {
    case gpu::Producer::none:
      return "none";
    case gpu::Producer::gelu:
      return "gelu";
    case gpu::Producer::swiglu:
      return "swiglu";
    case gpu::Producer::layer_norm:
      return "layer_norm";
    case gpu::Producer::rms_norm:
      return "rms_norm";
  }
  return "unknown";
}

}  // namespace rtlynx::benchmark
