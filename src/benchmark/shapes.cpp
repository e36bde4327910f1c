// SPDX-License-Identifier: Apache-2.0
#include "benchmark/shapes.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/error.h"
#include "models/flux/groups.h"
#include "models/qwen_image/groups.h"
#include "models/z_image/groups.h"
#include "rtlynx/limits.h"

namespace rtlynx::benchmark {
namespace {

constexpr std::int64_t kLargestSize = 1 << 20;

void append(std::vector<Shape>& shapes, std::vector<Shape> more) {
  for (Shape& shape : more) shapes.push_back(std::move(shape));
}

/// Adds to the count of the shape, which is there already but for the first of its kind.
void count_in(std::vector<Shape>& shapes, Shape shape) {
  for (Shape& known : shapes) {
    if (known.name != shape.name) continue;
    known.count += shape.count;
    return;
  }
  shapes.push_back(std::move(shape));
}

/// A producer of all channels can run inside the pack. Where several make them, each runs where its
/// part is written.
Producer producer_of(const LayerGroup& group) {
  if (group.parts.size() != 1) return Producer::none;
  switch (group.parts.front().maker) {
    case InputPart::Maker::modulated_norm:
      return Producer::norm;
    case InputPart::Maker::gelu:
      return Producer::gelu;
    case InputPart::Maker::swiglu:
      return Producer::swiglu;
    default:
      return Producer::none;
  }
}

/// "attn.to_qkv" of "transformer_blocks.7.attn.to_qkv", "single to_qkv_mlp" of a single block.
std::string short_name(const LayerGroup& group, const std::string& name) {
  const bool single = group.block.starts_with("single_");
  return (single ? "single " : "") + name.substr(group.block.size());
}

Shape shape_of(const LayerGroup& group, const std::string& model, const StreamTokens& tokens) {
  Shape shape{.name = model + " " + short_name(group, group.name),
              .model = model,
              .tokens = tokens.of(group.stream),
              .channels = group.channels,
              .producer = producer_of(group)};
  for (const GroupLayer& layer : group.layers) shape.outputs.push_back(layer.outputs);
  // Text is a few tokens: it has rows and counts in the sums, but says little of the kernels.
  shape.in_mean = group.stream != TokenStream::text;
  shape.in_pass = group.in_paper();
  return shape;
}

/// The shapes of one forward pass with so many tokens.
std::vector<Shape> shapes_of(const std::vector<LayerGroup>& groups, const std::string& model,
                             const StreamTokens& tokens) {
  std::vector<Shape> shapes;
  for (const LayerGroup& group : groups) {
    const Shape stacked = shape_of(group, model, tokens);
    count_in(shapes, stacked);
    if (group.layers.size() == 1) continue;
    std::vector<Shape> alone;
    for (const GroupLayer& layer : group.layers) {
      const auto same = std::find_if(alone.begin(), alone.end(), [&](const Shape& shape) {
        return shape.outputs.front() == layer.outputs;
      });
      if (same != alone.end()) {
        ++same->count;
        continue;
      }
      Shape shape = stacked;
      shape.name = model + " " + short_name(group, layer.name);
      shape.outputs = {layer.outputs};
      shape.in_mean = shape.in_pass = false;
      alone.push_back(std::move(shape));
    }
    for (Shape& shape : alone) count_in(shapes, std::move(shape));
  }
  return shapes;
}

// 1024 x 1024: 4096 image tokens.
std::vector<Shape> flux() {
  return shapes_of(flux_groups({}), "FLUX.1-dev", {.image = 4096, .text = 512});
}

// 1328 x 1328: 83 x 83 tokens, a multiple of nothing; a short prompt.
std::vector<Shape> qwen_image() {
  return shapes_of(qwen_image_groups({}), "Qwen-Image", {.image = 6889, .text = 64});
}

// 1024 x 1024 with 128 rows of caption. The four blocks of the refiners, which see one of the two
// and which the paper leaves dense, are not listed.
std::vector<Shape> z_image() {
  ZImageConfig config;
  config.n_refiner_layers = 0;
  return shapes_of(z_image_groups(config), "Z-Image", {.image = 4096, .text = 128});
}

// Table 2 of the paper.
std::vector<Shape> paper() {
  return {{"paper 4096 x 4096 x 3072", "", 4096, {4096}, 3072},
          {"paper 4096 x 4096 x 12288", "", 4096, {4096}, 12288},
          {"paper 8192 x 8192 x 12288", "", 8192, {8192}, 12288}};
}

/// FLUX.1's text stream by the length of the prompt.
std::vector<Shape> text() {
  std::vector<LayerGroup> groups;
  for (LayerGroup& group : flux_groups({})) {
    if (group.stream == TokenStream::text) groups.push_back(std::move(group));
  }
  std::vector<Shape> shapes;
  for (const std::int64_t tokens : {64, 128, 512}) {
    for (Shape& shape : shapes_of(groups, "text " + std::to_string(tokens), {.text = tokens})) {
      shape.model.clear();
      shape.in_pass = false;
      shapes.push_back(std::move(shape));
    }
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

/// Whole numbers of at least 1 with `separator` between them; none if `text` is something else.
std::vector<std::int64_t> parse_numbers(std::string_view text, char separator) {
  std::vector<std::int64_t> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::int64_t number = 0;
    const auto [after, error] = std::from_chars(at, end, number);
    if (error != std::errc{} || number < 1) return {};
    numbers.push_back(number);
    if (after == end) return numbers;
    if (*after != separator) return {};
    at = after + 1;
  }
}

bool is_within(const std::vector<std::int64_t>& sizes, std::int64_t multiple) {
  return std::all_of(sizes.begin(), sizes.end(), [=](std::int64_t size) {
    return size <= kLargestSize && size % multiple == 0;
  });
}

}  // namespace

std::int64_t Shape::all_outputs() const {
  return std::accumulate(outputs.begin(), outputs.end(), std::int64_t{0});
}

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
  const std::vector<std::int64_t> sizes = parse_numbers(text, ',');
  if (sizes.size() != 3) return std::nullopt;
  return std::array{sizes[0], sizes[1], sizes[2]};
}

Shape parse_shape(const std::string& text) {
  const std::string_view all = text;
  const std::size_t first = all.find(','), last = all.rfind(',');
  std::vector<std::int64_t> tokens, outputs, channels;
  if (first < last) {
    tokens = parse_numbers(all.substr(0, first), ',');
    outputs = parse_numbers(all.substr(first + 1, last - first - 1), '+');
    channels = parse_numbers(all.substr(last + 1), ',');
  }
  const bool complete = tokens.size() == 1 && channels.size() == 1 && !outputs.empty() &&
                        outputs.size() <= kMaxProducts;
  if (!complete || !is_within(tokens, 1) || !is_within(outputs, kOutputMultiple) ||
      !is_within(channels, kChannelMultiple)) {
    throw UsageError(
        "required M,N,K, or M,N+N,K for two to four weights that read one input, with N a multiple "
        "of 8 and K a multiple of 16, each from 1 to 2^20, got " +
        text);
  }
  return {text, "", tokens.front(), outputs, channels.front()};
}

const char* name_of(Producer producer) {
  switch (producer) {
    case Producer::none:
      return "none";
    case Producer::gelu:
      return "gelu";
    case Producer::swiglu:
      return "swiglu";
    case Producer::norm:
      return "norm";
  }
  return "unknown";
}

}  // namespace rtlynx::benchmark
