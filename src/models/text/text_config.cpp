// SPDX-License-Identifier: Apache-2.0
#include "models/text/text_config.h"

#include <optional>

#include "base/error.h"
#include "io/json.h"

namespace rtlynx {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxChannels = 1 << 20;
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxRows = std::int64_t{1} << 31;
constexpr std::int64_t kT5Buckets = 32;
constexpr std::int64_t kT5MaxDistance = 128;

/// Typed reads from one config; all keys have to be there unless a fallback is given.
class Reader {
 public:
  Reader(const json& config, const std::string& where) : config_(config), where_(where) {
    require(config.is_object(), where, "an object", config.type_name());
  }

  std::int64_t size(const char* key, std::int64_t max = kMaxChannels,
                    std::optional<std::int64_t> fallback = std::nullopt) const {
    return json_int(config_, key, where_, {.min = 1, .max = max, .fallback = fallback});
  }
  double eps(const char* key) const {
    return json_number(config_, key, where_, {.min = 0, .max = 1});
  }

  void expect(const char* key, const std::string& wanted,
              const std::optional<std::string>& fallback = std::nullopt) const {
    const std::string value = json_string(config_, key, where_, fallback);
    require(value == wanted, where_, std::string(key) + " \"" + wanted + "\"", "\"" + value + "\"");
  }
  void expect_false(const char* key) const {
    require(!json_bool(config_, key, where_, false), where_, std::string(key) + " = false",
            "true, which is not supported");
  }
  void expect_multiple(const char* what, std::int64_t value, std::int64_t factor) const {
    require(value % factor == 0, where_,
            std::string(what) + " to be a multiple of " + std::to_string(factor),
            std::to_string(value));
  }

 private:
  const json& config_;
  const std::string& where_;
};

/// The base of the rotary frequencies, as transformers 5 (rope_parameters) or 4 (rope_theta beside
/// rope_scaling) writes it. With text alone "mrope" turns like plain rotary positions.
double rope_theta(const json& config, const std::string& where) {
  const bool nested = config.contains("rope_parameters");
  const json& parameters = nested ? config["rope_parameters"] : config;
  const json& scaling = nested ? parameters : config.value("rope_scaling", json());
  if (scaling.is_object()) {
    for (const char* key : {"rope_type", "type"}) {
      const std::string kind = json_string(scaling, key, where, "default");
      require(kind == "default" || kind == "mrope", where, std::string(key) + " default or mrope",
              "\"" + kind + "\"");
    }
  }
  return json_number(parameters, "rope_theta", where, {.min = 1});
}

DecoderConfig decoder_config(const json& config, const std::string& where) {
  const Reader reader(config, where);
  reader.expect("hidden_act", "silu", "silu");
  reader.expect_false("use_sliding_window");
  DecoderConfig result{.vocab_size = reader.size("vocab_size", kMaxRows),
                       .hidden_size = reader.size("hidden_size"),
                       .intermediate_size = reader.size("intermediate_size"),
                       .num_hidden_layers = reader.size("num_hidden_layers", kMaxLayers),
                       .num_attention_heads = reader.size("num_attention_heads"),
                       .num_key_value_heads = reader.size("num_key_value_heads"),
                       .rms_norm_eps = reader.eps("rms_norm_eps"),
                       .rope_theta = rope_theta(config, where)};
  reader.expect_multiple("num_attention_heads", result.num_attention_heads,
                         result.num_key_value_heads);
  result.head_dim =
      reader.size("head_dim", kMaxChannels, result.hidden_size / result.num_attention_heads);
  reader.expect_multiple("head_dim", result.head_dim, 2);
  return result;
}

}  // namespace

ClipTextConfig clip_text_config_from_json(const json& config, const std::string& where) {
  const Reader reader(config, where);
  reader.expect("model_type", "clip_text_model");
  const std::string activation = json_string(config, "hidden_act", where);
  require(activation == "quick_gelu" || activation == "gelu", where,
          "hidden_act quick_gelu or gelu", "\"" + activation + "\"");
  const ClipTextConfig result{
      .vocab_size = reader.size("vocab_size", kMaxRows),
      .hidden_size = reader.size("hidden_size"),
      .intermediate_size = reader.size("intermediate_size"),
      .num_hidden_layers = reader.size("num_hidden_layers", kMaxLayers),
      .num_attention_heads = reader.size("num_attention_heads"),
      .max_position_embeddings = reader.size("max_position_embeddings"),
      .eos_token_id = json_int(config, "eos_token_id", where, {.min = 0, .max = kMaxRows}),
      .layer_norm_eps = reader.eps("layer_norm_eps"),
      .quick_gelu = activation == "quick_gelu"};
  reader.expect_multiple("hidden_size", result.hidden_size, result.num_attention_heads);
  return result;
}

T5Config t5_config_from_json(const json& config, const std::string& where) {
  const Reader reader(config, where);
  reader.expect("model_type", "t5");
  reader.expect("feed_forward_proj", "gated-gelu");
  // The bounds of the buckets are written out for these two (t5_encoder.cpp).
  const std::int64_t buckets = reader.size("relative_attention_num_buckets");
  require(buckets == kT5Buckets, where, "relative_attention_num_buckets 32",
          std::to_string(buckets));
  const std::int64_t distance =
      reader.size("relative_attention_max_distance", kMaxRows, kT5MaxDistance);
  require(distance == kT5MaxDistance, where, "relative_attention_max_distance 128",
          std::to_string(distance));
  return {.vocab_size = reader.size("vocab_size", kMaxRows),
          .d_model = reader.size("d_model"),
          .d_kv = reader.size("d_kv"),
          .d_ff = reader.size("d_ff"),
          .num_layers = reader.size("num_layers", kMaxLayers),
          .num_heads = reader.size("num_heads"),
          .layer_norm_epsilon = reader.eps("layer_norm_epsilon")};
}

DecoderConfig qwen2_5_vl_config_from_json(const json& config, const std::string& where) {
  Reader(config, where).expect("model_type", "qwen2_5_vl");
  const bool nested = config.contains("text_config") && config["text_config"].is_object() &&
                      config["text_config"].contains("hidden_size");
  DecoderConfig result = decoder_config(nested ? config["text_config"] : config, where);
  result.qkv_bias = true;
  return result;
}

DecoderConfig qwen3_config_from_json(const json& config, const std::string& where) {
  const Reader reader(config, where);
  reader.expect("model_type", "qwen3");
  reader.expect_false("attention_bias");
  DecoderConfig result = decoder_config(config, where);
  result.qk_norm = true;
  return result;
}

}  // namespace rtlynx
