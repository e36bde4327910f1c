// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/lora_settings.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "io/text.h"

namespace rtlynx {
namespace {

constexpr const char* kMetadata = "lora_adapter_metadata";
constexpr const char* kConfig = "adapter_config.json";
// Of diffusers' keys; text encoders' settings have others.
constexpr std::string_view kTransformer = "transformer.";
// Ways to begin a training that leave the model's weights alone. PEFT has others, such as PiSSA,
// which take from the weights what they give to the LoRA: it does not fit the weights as they were.
constexpr std::array<std::string_view, 3> kBeginnings = {"gaussian", "eva", "orthogonal"};

std::string_view without(std::string_view prefix, std::string_view name) {
  if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  return name;
}

/// A name as PEFT compares it: all of it, or what stands behind one of its dots.
Pattern ending_of_names(const std::string& expression, const std::string& where) {
  try {
    return Pattern("^(.*\\.)?(" + expression + ")$");
  } catch (const Error& error) {
    fail(where, "a regular expression", error.what());
  }
}

void check_kind(const nlohmann::json& settings, const std::string& prefix,
                const std::string& where) {
  const std::string kind = json_string(settings, prefix + "peft_type", where, "LORA");
  require(kind == "LORA", where, prefix + "peft_type LORA", printable(kind));
  require(!json_bool(settings, prefix + "use_dora", where, false), where,
          prefix + "use_dora = false", "true, which is not supported");
  const std::string key = prefix + "init_lora_weights";
  const auto beginning = settings.find(key);
  if (beginning == settings.end() || !beginning->is_string()) return;
  const auto name = beginning->get<std::string>();
  require(std::ranges::find(kBeginnings, name) != kBeginnings.end(), where,
          key + " that leaves the model's weights as they are", printable(name));
}

bool has_peft_names(const SafetensorsFile& file) {
  return std::ranges::any_of(file.names(),
                             [](const std::string& name) { return name.starts_with(kPeftPrefix); });
}

std::optional<LoraSettings> from_metadata(const std::string& text, const std::string& where) {
  const nlohmann::json settings = parse_json(text, where);
  require(settings.is_object(), where, "an object", printable_json(settings));
  for (const auto& item : settings.items()) {
    if (item.key().starts_with(kTransformer)) return LoraSettings(settings, kTransformer, where);
  }
  // A transformer that is saved alone has no prefix.
  if (!json_has(settings, "lora_alpha")) return std::nullopt;
  return LoraSettings(settings, "", where);
}

}  // namespace

std::optional<LoraSettings> LoraSettings::of(const SafetensorsFile& file) {
  const auto metadata = file.metadata().find(kMetadata);
  if (metadata != file.metadata().end()) {
    return from_metadata(metadata->second, printable(file.path().string()) + ", " + kMetadata);
  }
  const std::filesystem::path config = file.path().parent_path() / kConfig;
  if (!has_peft_names(file) || !std::filesystem::exists(config)) return std::nullopt;
  return LoraSettings(read_json_file(config), "", printable(config.string()));
}

LoraSettings::LoraSettings(const nlohmann::json& settings, std::string_view prefix,
                           const std::string& where)
    : prefix_(prefix), where_(where) {
  check_kind(settings, prefix_, where_);
  rank_stabilized_ = json_bool(settings, prefix_ + "use_rslora", where_, false);
  alpha_ = read(settings, "lora_alpha", "alpha_pattern");
  rank_ = read(settings, "r", "rank_pattern");
}

LoraSettings::Values LoraSettings::read(const nlohmann::json& settings, const char* key,
                                        const char* patterns) const {
  Values values{.common = json_number(settings, prefix_ + key, where_)};
  if (!json_has(settings, prefix_ + patterns)) return values;
  const nlohmann::json& others = settings.at(prefix_ + patterns);
  const std::string where = where_ + ", " + prefix_ + patterns;
  require(others.is_object(), where, "an object", printable_json(others));
  for (const auto& item : others.items()) {
    values.others.emplace_back(ending_of_names(item.key(), where),
                               json_number(others, item.key(), where));
  }
  return values;
}

double LoraSettings::Values::of(std::string_view module) const {
  for (const auto& [pattern, value] : others) {
    if (!pattern.matches(module).empty()) return value;
  }
  return common;
}

double LoraSettings::scale(std::string_view module, std::int64_t rank) const {
  const std::string_view name = without(prefix_, without(kPeftPrefix, module));
  const auto size = static_cast<double>(rank);
  const double wanted = rank_.of(name);
  if (wanted != size) {
    fail(where_, printable(name) + " of rank " + std::to_string(std::llround(wanted)),
         std::to_string(rank));
  }
  return alpha_.of(name) / (rank_stabilized_ ? std::sqrt(size) : size);
}

}  // namespace rtlynx
