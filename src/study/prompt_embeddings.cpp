// SPDX-License-Identifier: Apache-2.0
#include "study/prompt_embeddings.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/word_hash.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "layers/finite.h"
#include "models/device_memory.h"
#include "models/revision.h"
#include "models/tensor_bytes.h"
#include "pipeline/prompt_cache.h"

namespace rtlynx {
namespace {

constexpr std::string_view kNegative = "negative";

std::string shape_of(const FeatureShape& feature) {
  return "[" + std::string(feature.has_tokens ? "T, " : "") + std::to_string(feature.channels) +
         "]";
}

std::string shape_of(const torch::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.sizes();
  return text.str();
}

/// All names that a file may have, for messages.
std::string names_of(const std::vector<FeatureShape>& features) {
  std::string names;
  for (const FeatureShape& feature : features) {
    names += (names.empty() ? "" : ", ") + ("\"<i>." + feature.name + "\" " + shape_of(feature));
  }
  return names + " for prompts i = 0, 1, ..., or \"negative\" for i";
}

std::optional<std::size_t> prompt_index(std::string_view text) {
  std::size_t index = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, index);
  const bool is_number = error == std::errc() && stopped == end;
  const bool is_plain = text == "0" || !text.starts_with('0');
  return is_number && is_plain ? std::optional(index) : std::nullopt;
}

void check_feature(const torch::Tensor& value, const FeatureShape& feature,
                   const std::string& where) {
  const bool fits = value.is_floating_point() && value.dim() == (feature.has_tokens ? 2 : 1) &&
                    value.size(-1) == feature.channels && value.numel() > 0;
  if (!fits) {
    fail(where, "floating-point values " + shape_of(feature) + " with at least one token",
         std::string(c10::toString(value.scalar_type())) + " " + shape_of(value));
  }
  require_finite(value, where);
}

class Reader {
 public:
  Reader(const std::filesystem::path& path, const std::vector<FeatureShape>& features)
      : file_(SafetensorsFile::open(path)), where_(printable(path.string())), features_(features) {}

  PromptEmbeddings read() {
    PromptEmbeddings embeddings;
    for (const std::string& name : file_.names()) add(name, embeddings);
    require(!embeddings.prompts.empty(), where_, names_of(features_), "no prompt");
    for (std::size_t i = 0; i < embeddings.prompts.size(); ++i) {
      check_whole(std::to_string(i), embeddings.prompts[i]);
    }
    if (embeddings.negative) check_whole(std::string(kNegative), *embeddings.negative);
    embeddings.revision = file_revision(file_.path());
    return embeddings;
  }

 private:
  void add(const std::string& name, PromptEmbeddings& embeddings) {
    const std::size_t dot = name.find('.');
    const std::string prompt = name.substr(0, dot);
    const std::string rest = dot == std::string::npos ? "" : name.substr(dot + 1);
    const auto feature = std::ranges::find(features_, rest, &FeatureShape::name);
    const std::optional<std::size_t> index = prompt_index(prompt);
    // An index beyond the number of tensors leaves prompts out.
    const bool known = index ? *index < file_.names().size() : prompt == kNegative;
    if (feature == features_.end() || !known) {
      fail(where_, names_of(features_), "tensor " + in_quotes(name));
    }
    const std::string where = where_ + ", tensor " + name;
    torch::Tensor value = copy_to_tensor(file_.entry(name), where);
    check_feature(value, *feature, where);
    if (!index) {
      if (!embeddings.negative) embeddings.negative.emplace();
      embeddings.negative->emplace(rest, std::move(value));
      return;
    }
    if (embeddings.prompts.size() <= *index) embeddings.prompts.resize(*index + 1);
    embeddings.prompts[*index].emplace(rest, std::move(value));
  }

  void check_whole(const std::string& prompt, const PromptFeatures& features) const {
    for (const FeatureShape& feature : features_) {
      require(features.contains(feature.name), where_,
              "tensor \"" + prompt + "." + feature.name + "\" " + shape_of(feature), "none");
    }
  }

  SafetensorsFile file_;
  std::string where_;
  const std::vector<FeatureShape>& features_;
};

void check_encoded(const PromptFeatures& encoded, const std::vector<FeatureShape>& features,
                   const std::string& prompt) {
  const std::string where = "text encoders, prompt " + in_quotes(prompt);
  for (const FeatureShape& feature : features) {
    const auto value = encoded.find(feature.name);
    if (value == encoded.end()) fail(where, "the transformer's " + feature.name, "none");
    check_feature(value->second, feature, where + ", " + feature.name);
  }
}

/// Of all that the features depend on, which is what a cache keeps them by.
std::string revision_of(const TextToImageModel& model, const std::vector<std::string>& prompts,
                        bool with_negative, const torch::TensorOptions& options) {
  const std::string encoding = model.encoding();
  WordHash hash;
  hash.add(std::uint64_t{with_negative});
  for (const std::string& prompt : prompts) {
    const std::string key = features_key(encoding, options, prompt);
    hash.add(std::as_bytes(std::span(key)));
  }
  return hash.digits();
}

}  // namespace

PromptEmbeddings read_prompt_embeddings(const std::filesystem::path& path,
                                        const std::vector<FeatureShape>& features) {
  return Reader(path, features).read();
}

PromptEmbeddings encode_prompts(const TextToImageModel& model,
                                const std::vector<FeatureShape>& features,
                                const std::vector<std::string>& prompts,
                                const std::optional<std::string>& negative,
                                const torch::TensorOptions& options, const PartCallback& on_load,
                                const LoadProgress& on_encoded) {
  const torch::NoGradGuard no_grad;
  std::vector<std::string> all = prompts;
  if (negative) all.push_back(*negative);
  model.check_encoder_memory(options);
  PromptEmbeddings embeddings{.prompts = std::vector<PromptFeatures>(all.size()),
                              .negative = {},
                              .revision = revision_of(model, all, negative.has_value(), options)};
  model.encode(all, options, on_load, [&](std::size_t i, PromptFeatures encoded) {
    embeddings.prompts[i] = std::move(encoded);
    on_encoded(i + 1, all.size());
  });
  release_freed_memory(options.device());
  for (std::size_t i = 0; i < all.size(); ++i) {
    check_encoded(embeddings.prompts[i], features, all[i]);
  }
  if (negative) {
    embeddings.negative = std::move(embeddings.prompts.back());
    embeddings.prompts.pop_back();
  }
  return embeddings;
}

}  // namespace rtlynx
