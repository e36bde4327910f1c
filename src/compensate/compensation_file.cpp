// SPDX-License-Identifier: Apache-2.0
#include "compensate/compensation_file.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "layers/finite.h"
#include "models/recipe.h"
#include "models/revision.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

constexpr const char* kFormat = "rtlynx compensation";
constexpr const char* kPattern = "2:4";
constexpr const char* kPrefix = "rtlynx.";
constexpr const char* kActivation = "activation 2:4";
constexpr const char* kWeight = "weight 2:4";
constexpr const char* kFixed = "fixed choice";
constexpr const char* kE4m3 = "e4m3";

/// The tensors of a layer, or of an input, under the names that they have in a file.
using NamedSlots = std::vector<std::pair<const char*, torch::Tensor*>>;

NamedSlots layer_slots(Compensation24& values) {
  return {{"down", &values.down}, {"up", &values.up}, {"weight", &values.weight}};
}

NamedSlots replacement_slots(Replacement& values) {
  return {{"axes", &values.axes},
          {"weight", &values.weight},
          {"down", &values.down},
          {"up", &values.up}};
}

NamedSlots input_slots(InputTransform& transform) {
  return {{"transform", &transform.blocks},
          {"scale", &transform.scale},
          {"permutation", &transform.permutation}};
}

std::string key_of(const std::string& owner, const char* slot) {
  return kPrefix + owner + "." + slot;
}

/// Takes the tensors out of a file and knows which were never asked for.
class TensorSource {
 public:
  explicit TensorSource(const SafetensorsFile& file)
      : file_(file), left_(file.names().begin(), file.names().end()) {}

  /// The tensors that are there; the others stay undefined.
  void fill(const std::string& owner, const NamedSlots& slots) {
    for (const auto& [slot, tensor] : slots) {
      const std::string key = key_of(owner, slot);
      if (file_.contains(key)) *tensor = take(key, std::string(slot) == "permutation");
    }
  }

  void check_nothing_is_left() const {
    if (left_.empty()) return;
    fail(file_.path().string() + ", tensor " + in_quotes(*left_.begin()),
         "a tensor of a target or of its input", "another");
  }

 private:
  torch::Tensor take(const std::string& key, bool is_index) {
    const std::string where = file_.path().string() + ", tensor " + in_quotes(key);
    const TensorEntry& entry = file_.entry(key);
    const TensorDtype wanted = is_index ? TensorDtype::kI64 : TensorDtype::kBF16;
    require(entry.dtype == wanted, where, dtype_name(wanted), dtype_name(entry.dtype));
    const torch::Tensor tensor = copy_to_tensor(entry, where);
    require_finite(tensor, where);
    left_.erase(key);
    return tensor;
  }

  const SafetensorsFile& file_;
  std::set<std::string> left_;
};

/// Metadata values by key, checked off as they are read.
class MetadataSource {
 public:
  explicit MetadataSource(const SafetensorsFile& file)
      : where_(file.path().string()), left_(file.metadata()) {}

  std::string take(const std::string& key) {
    const auto found = left_.find(key);
    if (found == left_.end()) fail(where_ + ", metadata", "the key " + key, "none");
    std::string value = found->second;
    left_.erase(found);
    return value;
  }

  std::int64_t take_int(const std::string& key, std::int64_t min) {
    const nlohmann::json value = parse_json(take(key), where_ + ", metadata " + key);
    return json_int({{key, value}}, key, where_, {.min = min, .max = 1'000'000});
  }

  void check_nothing_is_left(std::int64_t version) const {
    if (left_.empty()) return;
    fail(where_ + ", metadata", "only keys of format version " + std::to_string(version),
         in_quotes(left_.begin()->first));
  }

 private:
  std::string where_;
  SafetensorsMetadata left_;
};

// Returns the version.
std::int64_t check_format(MetadataSource& metadata, const std::string& where) {
  const std::string format = metadata.take("format");
  require(format == kFormat, where, std::string("format ") + kFormat, printable(format));
  const std::int64_t version = metadata.take_int("format_version", 1);
  if (version > kCompensationFormatVersion) {
    fail(where, "format version " + std::to_string(kCompensationFormatVersion) + " or older",
         std::to_string(version) + "; a newer rtlynx reads it");
  }
  const std::string pattern = metadata.take("pattern");
  require(pattern == kPattern, where, std::string("pattern ") + kPattern, printable(pattern));
  return version;
}

void check_rank(const torch::Tensor& down, const torch::Tensor& up, std::int64_t rank,
                const std::string& where) {
  require(down.defined() == up.defined(), where, "down and up, or neither", "one");
  if (!down.defined()) return;
  require(rank > 0, where, "no low rank, since the file's rank is 0", "one");
  const bool fits = down.dim() == 2 && up.dim() == 2 && down.size(0) == rank && up.size(1) == rank;
  require(fits, where,
          "down [" + std::to_string(rank) + ", K] and up [N, " + std::to_string(rank) +
              "], the file's rank",
          "another shape");
}

bool is_fixed(const Replacement& values) { return !values.sparse; }

// A fixed choice's rank is its own.
void check_rank(const LayerCompensation& layer, std::int64_t rank, const std::string& where) {
  if (!layer.replacement) return check_rank(layer.values.down, layer.values.up, rank, where);
  const Replacement& values = *layer.replacement;
  const bool own = is_fixed(values) && values.down.defined() && values.down.dim() == 2;
  check_rank(values.down, values.up, own ? values.down.size(0) : rank, where);
}

void check_bias(const LayerCompensation& layer, const std::string& where) {
  const torch::Tensor& bias = layer.replacement ? layer.replacement->bias : layer.values.bias;
  require(!bias.defined(), where, "the layer's own bias", "another");
}

std::int64_t version_of(const ModelCompensation& compensation) {
  std::int64_t version = 1;
  for (const auto& [name, layer] : compensation.layers) {
    const Compensation24& values = layer.values;
    std::int64_t own = 1;
    if (layer.replacement) {
      own = 2;
    } else if (values.e4m3) {
      own = 4;
    } else if (!values.transform.is_identity() && !values.weight.defined()) {
      own = 3;
    }
    version = std::max(version, own);
  }
  return version;
}

nlohmann::ordered_json target_of(const LayerCompensation& layer, std::int64_t version) {
  nlohmann::ordered_json target;
  if (!layer.replacement) target["norm"] = layer.values.norm;
  target["input"] = layer.input;
  if (version >= 2) {
    target["kind"] = kind_of(layer);
    target["method"] = layer.method;
  }
  if (!layer.replacement && layer.values.e4m3) target["values"] = kE4m3;
  return target;
}

nlohmann::ordered_json targets_of(const ModelCompensation& compensation) {
  nlohmann::ordered_json targets = nlohmann::ordered_json::object();
  for (const auto& [name, layer] : compensation.layers) {
    targets[name] = target_of(layer, version_of(compensation));
  }
  return targets;
}

void check_layer(const LayerCompensation& layer, const SparseLinearImpl& linear) {
  if (layer.replacement) {
    layer.replacement->check(linear.in_features(), linear.out_features());
  } else {
    layer.values.check(linear.in_features(), linear.out_features());
  }
}

/// Reads targets of one file, each with its tensors.
class TargetReader {
 public:
  TargetReader(const SafetensorsFile& file, std::int64_t version, std::int64_t rank,
               std::int64_t alpha)
      : tensors_(file), version_(version), rank_(rank), alpha_(alpha) {}

  LayerCompensation read(const std::string& name, const nlohmann::json& target,
                         const std::string& place) {
    require(target.is_object(), place, "an object", "another value");
    LayerCompensation layer{.input = json_string(target, "input", place)};
    const std::string kind = version_ >= 2 ? json_string(target, "kind", place) : kActivation;
    if (version_ >= 2) layer.method = json_string(target, "method", place);
    if (kind == kActivation) {
      layer.values.norm = json_bool(target, "norm", place);
      layer.values.e4m3 = is_e4m3(target, place);
      tensors_.fill(name, layer_slots(layer.values));
    } else {
      const bool known = kind == kWeight || kind == kFixed;
      require(known, place, "kind activation 2:4, weight 2:4 or fixed choice", printable(kind));
      layer.replacement.emplace().sparse = kind == kWeight;
      tensors_.fill(name, replacement_slots(*layer.replacement));
    }
    check_rank(layer, rank_, place);
    scale_up(layer, place);
    if (!layer.replacement) layer.values.transform = transform_of(layer.input);
    return layer;
  }

  void check_nothing_is_left() const { tensors_.check_nothing_is_left(); }

 private:
  bool is_e4m3(const nlohmann::json& target, const std::string& place) const {
    if (version_ < 4 || !json_has(target, "values")) return false;
    const std::string values = json_string(target, "values", place);
    require(values == kE4m3, place, std::string("values ") + kE4m3, printable(values));
    return true;
  }

  // By alpha / rank, as of a LoRA.
  void scale_up(LayerCompensation& layer, const std::string& place) const {
    if (layer.replacement && is_fixed(*layer.replacement)) return;
    torch::Tensor& up = layer.replacement ? layer.replacement->up : layer.values.up;
    if (!up.defined() || alpha_ == rank_) return;
    up = up * (static_cast<double>(alpha_) / static_cast<double>(rank_));
    require(up.isfinite().all().item<bool>(), place,
            "an alpha that keeps up finite in bf16, at rank " + std::to_string(rank_),
            std::to_string(alpha_));
  }

  // One for all layers of the input.
  InputTransform transform_of(const std::string& input) {
    const auto [place, is_new] = transforms_.try_emplace(input);
    if (is_new) tensors_.fill(input, input_slots(place->second));
    return place->second;
  }

  TensorSource tensors_;
  std::map<std::string, InputTransform> transforms_;
  std::int64_t version_, rank_, alpha_;
};

}  // namespace

std::string_view kind_of(const LayerCompensation& layer) {
  if (!layer.replacement) return kActivation;
  return is_fixed(*layer.replacement) ? kFixed : kWeight;
}

void write_compensation(const std::filesystem::path& path, const ModelCompensation& compensation) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  std::set<std::string> written_inputs;
  const auto append = [&](const std::string& owner, const NamedSlots& slots) {
    for (const auto& [slot, tensor] : slots) {
      if (!tensor->defined()) continue;
      const bool is_index = !tensor->is_floating_point();
      tensors.emplace_back(key_of(owner, slot), is_index ? *tensor : tensor->to(torch::kBFloat16));
      require_finite(tensors.back().second,
                     "write " + path.string() + ", tensor " + tensors.back().first);
    }
  };
  for (auto [name, layer] : compensation.layers) {
    check_rank(layer, compensation.rank, "compensation of " + name);
    check_bias(layer, "compensation of " + name);
    if (layer.replacement) {
      append(name, replacement_slots(*layer.replacement));
      continue;
    }
    append(name, layer_slots(layer.values));
    if (written_inputs.insert(layer.input).second) {
      append(layer.input, input_slots(layer.values.transform));
    }
  }
  const TensorBytes bytes(tensors);
  write_safetensors(path, bytes.entries(),
                    {{"format", kFormat},
                     {"format_version", std::to_string(version_of(compensation))},
                     {"pattern", kPattern},
                     {"method", compensation.method},
                     {"transform", compensation.transform},
                     {"recipe", compensation.recipe},
                     {"rank", std::to_string(compensation.rank)},
                     {"alpha", std::to_string(compensation.rank)},
                     {"base_model", compensation.base_model},
                     {"base_revision", compensation.base_revision},
                     {"targets", targets_of(compensation).dump()}});
}

ModelCompensation read_compensation(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const std::string where = path.string();
  MetadataSource metadata(file);
  const std::int64_t version = check_format(metadata, where);
  ModelCompensation compensation{.base_model = metadata.take("base_model"),
                                 .base_revision = metadata.take("base_revision"),
                                 .method = metadata.take("method"),
                                 .transform = metadata.take("transform"),
                                 .recipe = metadata.take("recipe"),
                                 .rank = metadata.take_int("rank", 0),
                                 .layers = {}};
  const std::int64_t alpha = metadata.take_int("alpha", 0);
  const nlohmann::json targets = parse_json(metadata.take("targets"), where + ", metadata targets");
  metadata.check_nothing_is_left(version);
  require(targets.is_object() && !targets.empty(), where, "targets: an object of layers",
          "another value");

  TargetReader reader(file, version, compensation.rank, alpha);
  for (const auto& [name, target] : targets.items()) {
    compensation.layers.emplace(name,
                                reader.read(name, target, where + ", target " + in_quotes(name)));
  }
  reader.check_nothing_is_left();
  return compensation;
}

void apply_layer(SparseLinear& linear, const LayerCompensation& layer) {
  if (layer.replacement) {
    linear->set_replacement(*layer.replacement);
    linear->set_mode(LinearMode::replaced);
  } else {
    linear->set_compensation(layer.values);
    linear->set_mode(LinearMode::compensated);
  }
}

void apply_compensation(torch::nn::Module& model, const ModelCompensation& compensation,
                        const std::string& where) {
  const std::string revision = weights_revision(model);
  require(revision == compensation.base_revision, where,
          "the weights that it was made for, revision " + printable(compensation.base_revision) +
              " of " + printable(compensation.base_model),
          "revision " + revision);
  std::map<std::string, SparseLinear> linears;
  for (const auto& [name, linear] : named_linears(model)) linears.emplace(name, linear);
  for (const auto& [name, layer] : compensation.layers) {
    const auto found = linears.find(name);
    if (found == linears.end()) fail(where, "layers of the model", in_quotes(name));
    try {
      check_layer(layer, *found->second);
    } catch (const Error& error) {
      throw Error(where + ", layer " + name + ": " + error.what());
    }
  }
  for (auto& [name, linear] : linears) {
    const auto found = compensation.layers.find(name);
    if (found == compensation.layers.end()) {
      linear->set_mode(LinearMode::dense);
      continue;
    }
    apply_layer(linear, found->second);
  }
}

}  // namespace rtlynx
