// SPDX-License-Identifier: Apache-2.0
#include "mini/word_encoder.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "models/parameters.h"

namespace rtlynx {
namespace {

constexpr std::size_t kOneShard = std::size_t{1} << 40;

Vocabulary vocabulary_from_json(const nlohmann::json& json, const std::string& where) {
  std::map<std::string, std::string> aliases;
  const nlohmann::json spellings =
      json_has(json, "aliases") ? json.at("aliases") : nlohmann::json::object();
  require(spellings.is_object(), where, "an object \"aliases\"", spellings.type_name());
  for (const auto& [spelling, word] : spellings.items()) {
    aliases[spelling] = json_string(spellings, spelling, where);
  }
  try {
    return {json_strings(json, "words", where), json_strings(json, "ignored", where),
            std::move(aliases)};
  } catch (const UsageError& error) {  // a list that clashes; here it is the file that is wrong
    throw Error(where + ": " + error.what());
  }
}

nlohmann::ordered_json to_json(const Vocabulary& vocabulary) {
  return {{"words", vocabulary.words()},
          {"ignored", vocabulary.ignored()},
          {"aliases", vocabulary.aliases()}};
}

}  // namespace

TextEncoderImpl::TextEncoderImpl(Vocabulary vocabulary, std::int64_t max_tokens,
                                 std::int64_t channels, const torch::TensorOptions& options)
    : vocabulary_(std::move(vocabulary)) {
  token_embedding =
      register_parameter("token_embedding", torch::empty({vocabulary_.size(), channels}, options));
  position_embedding =
      register_parameter("position_embedding", torch::empty({max_tokens, channels}, options));
}

TextEmbedding TextEncoderImpl::forward(const torch::Tensor& ids) {
  const torch::Tensor tokens = torch::embedding(token_embedding, ids) + position_embedding;
  return {.tokens = tokens, .pooled = tokens.mean(/*dim=*/1)};
}

torch::Tensor TextEncoderImpl::encode(const std::vector<std::string>& prompts) const {
  torch::Tensor ids = torch::full({static_cast<std::int64_t>(prompts.size()), max_tokens()},
                                  Vocabulary::kPadding, torch::kInt64);
  for (std::size_t row = 0; row < prompts.size(); ++row) {
    const auto words = vocabulary_.encode(prompts[row], static_cast<int>(max_tokens()));
    auto* first = ids[static_cast<std::int64_t>(row)].mutable_data_ptr<std::int64_t>();
    std::copy(words.begin(), words.end(), first);
  }
  return ids;
}

TextEncoder load_text_encoder(const std::filesystem::path& folder,
                              const torch::TensorOptions& options) {
  const auto vocabulary_path = folder / "vocabulary.json";
  const auto config_path = folder / "config.json";
  const nlohmann::json config = read_json_file(config_path);
  const std::string where = config_path.string();
  TextEncoder encoder(
      vocabulary_from_json(read_json_file(vocabulary_path), vocabulary_path.string()),
      json_int(config, "max_tokens", where, {.min = 1, .max = 4096}),
      json_int(config, "channels", where, {.min = 1, .max = 65536}), options);
  load_parameters(*encoder, folder, "model");
  return encoder;
}

void save_text_encoder(const TextEncoder& encoder, const std::filesystem::path& folder) {
  FileSet files;
  stage_text_encoder(encoder, folder, files);
  files.commit();
}

void stage_text_encoder(const TextEncoder& encoder, const std::filesystem::path& folder,
                        FileSet& files) {
  const nlohmann::ordered_json config = {{"_class_name", "TextEncoder"},
                                         {"channels", encoder->channels()},
                                         {"max_tokens", encoder->max_tokens()}};
  files.add(folder / "config.json", config.dump(2) + "\n");
  files.add(folder / "vocabulary.json", to_json(encoder->vocabulary()).dump(2) + "\n");
  stage_parameters(*encoder, folder, "model", torch::kBFloat16, kOneShard, files);
}

}  // namespace rtlynx
