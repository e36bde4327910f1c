// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/lora.h"

#include <array>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "layers/finite.h"
#include "models/checkpoint/lora_settings.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

// "default" is the name that PEFT gives an adapter.
constexpr std::array<std::pair<std::string_view, LoraRole>, 11> kEndings = {{
    {".lora_A.default.weight", LoraRole::down},
    {".lora_B.default.weight", LoraRole::up},
    {".lora_A.weight", LoraRole::down},
    {".lora_B.weight", LoraRole::up},
    {".lora_down.weight", LoraRole::down},
    {".lora_up.weight", LoraRole::up},
    {".lora.down.weight", LoraRole::down},
    {".lora.up.weight", LoraRole::up},
    {".down.weight", LoraRole::down},
    {".up.weight", LoraRole::up},
    {".alpha", LoraRole::alpha},
}};

/// The tensors of one module of a LoRA.
struct LoraModule {
  const LoraTarget* target = nullptr;
  torch::Tensor down, up, alpha;
  std::string where;  ///< file and a tensor of it
};

torch::Tensor& slot(LoraModule& module, LoraRole role) {
  if (role == LoraRole::alpha) return module.alpha;
  return role == LoraRole::down ? module.down : module.up;
}

/// In fp32: a LoRA may be in FP8, with which torch does not compute.
torch::Tensor read_values(const TensorEntry& entry, const std::string& where) {
  torch::Tensor values = copy_to_tensor(entry, where).to(torch::kFloat32);
  require_finite(values, where);
  return values;
}

/// The modules of a file by name. Throws Error for a name that is no layer's, and for values that
/// are not finite.
std::map<std::string, LoraModule> group_by_module(const SafetensorsFile& file,
                                                  const LayerNames& names) {
  std::map<std::string, LoraModule> modules;
  std::vector<std::string> unmatched;
  for (const std::string& name : file.names()) {
    const auto parsed = parse_lora_name(name);
    const LoraTarget* target = parsed ? names.find(parsed->module) : nullptr;
    if (target == nullptr) {
      unmatched.push_back(name);
      continue;
    }
    LoraModule& module = modules[std::string(parsed->module)];
    module.target = target;
    module.where = file.path().string() + ", tensor " + printable(name);
    slot(module, parsed->role) = read_values(file.entry(name), module.where);
  }
  if (!unmatched.empty()) {
    fail(printable(file.path().string()), "only tensors of the transformer's linear layers",
         in_quotes(unmatched.front()) + " (" + std::to_string(unmatched.size()) +
             " such tensors of " + std::to_string(file.names().size()) + ")");
  }
  return modules;
}

void check(const LoraModule& module) {
  if (!module.down.defined() || !module.up.defined()) {
    fail(module.where, "down and up (lora_A and lora_B) together",
         module.down.defined() ? "down alone"
         : module.up.defined() ? "up alone"
                               : "neither");
  }
  const auto& parts = module.target->parts;
  const std::int64_t rows = parts.back().first_row + parts.back().layer.out;
  const std::int64_t inputs = parts.front().layer.in;
  const std::int64_t rank = module.down.dim() == 2 ? module.down.size(0) : 0;
  const bool fits = rank > 0 && module.down.size(1) == inputs &&
                    module.up.sizes() == torch::IntArrayRef({rows, rank});
  if (!fits) {
    fail(module.where,
         "down [r, " + std::to_string(inputs) + "] and up [" + std::to_string(rows) + ", r]",
         c10::str(module.down.sizes()) + " and " + c10::str(module.up.sizes()));
  }
  require(!module.alpha.defined() || module.alpha.numel() == 1, module.where, "one number as alpha",
          "several");
}

/// alpha / rank, of a tensor or else by the settings; nothing where neither says it.
std::optional<double> scale_of(std::string_view name, const LoraModule& module,
                               const std::optional<LoraSettings>& settings) {
  const std::int64_t rank = module.down.size(0);
  if (module.alpha.defined()) return module.alpha.item<double>() / static_cast<double>(rank);
  if (settings) return settings->scale(name, rank);
  return std::nullopt;
}

}  // namespace

std::optional<LoraName> parse_lora_name(std::string_view name) {
  for (const auto& [ending, role] : kEndings) {
    if (!name.ends_with(ending)) continue;
    return LoraName{.module = name.substr(0, name.size() - ending.size()), .role = role};
  }
  return std::nullopt;
}

LowRankUpdates read_lora(const std::filesystem::path& path, const LayerNames& names,
                         double strength, const LoraWarning& on_warning) {
  const torch::NoGradGuard no_grad;
  const SafetensorsFile file = SafetensorsFile::open(path);
  const std::optional<LoraSettings> settings = LoraSettings::of(file);
  bool unscaled = false;
  LowRankUpdates updates;
  for (auto& [name, module] : group_by_module(file, names)) {
    check(module);
    const std::optional<double> scale = scale_of(name, module, settings);
    unscaled = unscaled || (!scale && name.starts_with(kPeftPrefix));
    torch::Tensor up = module.up * (strength * scale.value_or(1));
    require_finite(up, module.where + ", by its alpha and the strength");
    if (module.target->halves_swapped) {
      const auto halves = up.chunk(2, 0);
      up = torch::cat({halves[1], halves[0]});
    }
    for (const LayerRows& part : module.target->parts) {
      const LowRankUpdate update{.down = module.down,
                                 .up = up.narrow(0, part.first_row, part.layer.out).clone()};
      if (!updates.emplace(part.layer.name, update).second) {
        fail(module.where, "each layer once", part.layer.name + " under another name as well");
      }
    }
  }
  if (unscaled && on_warning) {
    on_warning(printable(path.string()) +
               ": its alpha is neither in the file nor in an adapter_config.json beside it, where "
               "PEFT keeps it; the rank is taken for it, and the strength may have to be another");
  }
  return updates;
}

void add_updates(LowRankUpdates& sum, const LowRankUpdates& more) {
  for (const auto& [layer, update] : more) {
    const auto [place, added] = sum.emplace(layer, update);
    if (added) continue;
    place->second = {.down = torch::cat({place->second.down, update.down}, 0),
                     .up = torch::cat({place->second.up, update.up}, 1)};
  }
}

torch::Tensor merged_weight(const torch::Tensor& weight, const LowRankUpdate& update) {
  const torch::NoGradGuard no_grad;
  const auto options = weight.options().dtype(torch::kFloat32);
  return torch::addmm(weight.to(torch::kFloat32), update.up.to(options), update.down.to(options))
      .to(weight.scalar_type());
}

}  // namespace rtlynx
