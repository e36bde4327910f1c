// SPDX-License-Identifier: Apache-2.0
#include "compensate/compensation_file.h"

#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "models/recipe.h"
#include "models/revision.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

constexpr const char* kFormat = "rtlynx compensation";
constexpr const char* kPattern = "2:4";
constexpr const char* kPrefix = "rtlynx.";

/// The tensors of a layer, or of an input, under the names that they have in a file.
using NamedSlots = std::vector<std::pair<const char*, torch::Tensor*>>;

NamedSlots layer_slots(Compensation24& values) {
  return {{"down", &values.down}, {"up", &values.up}, {"weight", &values.weight}};
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
    require(is_index || tensor.isfinite().all().item<bool>(), where, "finite values",
            "infinite or NaN ones");
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

  void check_nothing_is_left() const {
    if (left_.empty()) return;
    fail(where_ + ", metadata", "only keys of format version 1", in_quotes(left_.begin()->first));
  }

 private:
  std::string where_;
  SafetensorsMetadata left_;
};

void check_format(MetadataSource& metadata, const std::string& where) {
  const std::string format = metadata.take("format");
  require(format == kFormat, where, std::string("format ") + kFormat, printable(format));
  const std::int64_t version = metadata.take_int("format_version", 1);
  if (version > kCompensationFormatVersion) {
    fail(where, "format version " + std::to_string(kCompensationFormatVersion) + " or older",
         std::to_string(version) + "; a newer rtlynx reads it");
  }
  const std::string pattern = metadata.take("pattern");
  require(pattern == kPattern, where, std::string("pattern ") + kPattern, printable(pattern));
}

void check_rank(const Compensation24& values, std::int64_t rank, const std::string& where) {
  require(values.down.defined() == values.up.defined(), where, "down and up, or neither", "one");
  if (!values.down.defined()) return;
  require(rank > 0, where, "no low rank, since the file's rank is 0", "one");
  const bool fits = values.down.dim() == 2 && values.up.dim() == 2 && values.down.size(0) == rank &&
                    values.up.size(1) == rank;
  require(fits, where,
          "down [" + std::to_string(rank) + ", K] and up [N, " + std::to_string(rank) +
              "], the file's rank",
          "another shape");
}

// alpha / rank, as of a LoRA.
void scale_up(Compensation24& values, std::int64_t alpha, std::int64_t rank,
              const std::string& where) {
  if (!values.up.defined() || alpha == rank) return;
  values.up = values.up * (static_cast<double>(alpha) / static_cast<double>(rank));
  require(values.up.isfinite().all().item<bool>(), where,
          "an alpha that keeps up finite in bf16, at rank " + std::to_string(rank),
          std::to_string(alpha));
}

nlohmann::ordered_json targets_of(const ModelCompensation& compensation) {
  nlohmann::ordered_json targets = nlohmann::ordered_json::object();
  for (const auto& [name, layer] : compensation.layers) {
    targets[name] = {{"norm", layer.values.norm}, {"input", layer.input}};
  }
  return targets;
}

}  // namespace

void write_compensation(const std::filesystem::path& path, const ModelCompensation& compensation) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  std::set<std::string> written_inputs;
  const auto append = [&](const std::string& owner, const NamedSlots& slots) {
    for (const auto& [slot, tensor] : slots) {
      if (!tensor->defined()) continue;
      const bool is_index = !tensor->is_floating_point();
      tensors.emplace_back(key_of(owner, slot), is_index ? *tensor : tensor->to(torch::kBFloat16));
    }
  };
  for (auto [name, layer] : compensation.layers) {
    check_rank(layer.values, compensation.rank, "compensation of " + name);
    require(!layer.values.bias.defined(), "compensation of " + name, "the layer's own bias",
            "another");
    append(name, layer_slots(layer.values));
    if (written_inputs.insert(layer.input).second) {
      append(layer.input, input_slots(layer.values.transform));
    }
  }
  const TensorBytes bytes(tensors);
  write_safetensors(path, bytes.entries(),
                    {{"format", kFormat},
                     {"format_version", std::to_string(kCompensationFormatVersion)},
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
  check_format(metadata, where);
  ModelCompensation compensation{.base_model = metadata.take("base_model"),
                                 .base_revision = metadata.take("base_revision"),
                                 .method = metadata.take("method"),
                                 .transform = metadata.take("transform"),
                                 .recipe = metadata.take("recipe"),
                                 .rank = metadata.take_int("rank", 0),
                                 .layers = {}};
  const std::int64_t alpha = metadata.take_int("alpha", 0);
  const nlohmann::json targets = parse_json(metadata.take("targets"), where + ", metadata targets");
  metadata.check_nothing_is_left();
  require(targets.is_object() && !targets.empty(), where, "targets: an object of layers",
          "another value");

  TensorSource tensors(file);
  std::map<std::string, InputTransform> transforms;
  for (const auto& [name, target] : targets.items()) {
    const std::string place = where + ", target " + in_quotes(name);
    require(target.is_object(), place, "an object", "another value");
    LayerCompensation layer{.input = json_string(target, "input", place), .values = {}};
    layer.values.norm = json_bool(target, "norm", place);
    tensors.fill(name, layer_slots(layer.values));
    check_rank(layer.values, compensation.rank, place);
    scale_up(layer.values, alpha, compensation.rank, place);
    if (!transforms.contains(layer.input)) {
      tensors.fill(layer.input, input_slots(transforms[layer.input]));
    }
    layer.values.transform = transforms[layer.input];
    compensation.layers.emplace(name, std::move(layer));
  }
  tensors.check_nothing_is_left();
  return compensation;
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
      layer.values.check(found->second->in_features(), found->second->out_features());
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
    linear->set_compensation(found->second.values);
    linear->set_mode(LinearMode::compensated);
  }
}

}  // namespace rtlynx
