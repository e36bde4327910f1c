// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "models/checkpoint/single_file.h"
#include "models/parameters.h"

namespace rtlynx {

inline constexpr std::string_view kTextEncoderStem = "model";
inline constexpr std::string_view kTransformerStem = "diffusion_pytorch_model";

/// The configuration in `folder`, once the files with its weights are seen to be whole.
template <typename Config>
Config read_part(const std::filesystem::path& folder, std::string_view stem,
                 Config (*read)(const nlohmann::json&, const std::string&)) {
  const std::filesystem::path path = folder / "config.json";
  const Config config = read(read_json_file(path), printable(path.string()));
  SafetensorsModel::open(folder, stem);
  return config;
}

/// Where a transformer's weights are: in its folder beside config.json, or in a file of their own,
/// perhaps by the names of others (BFL, ComfyUI).
struct TransformerSource {
  std::filesystem::path folder;
  std::filesystem::path file;  ///< or empty

  /// The configuration, once the files with the weights are seen to be whole.
  template <typename Config>
  Config read(Config (*read_config)(const nlohmann::json&, const std::string&)) const {
    if (file.empty()) return read_part(folder, kTransformerStem, read_config);
    SafetensorsModel::open(file);
    const std::filesystem::path path = folder / "config.json";
    return read_config(read_json_file(path), printable(path.string()));
  }

  /// Throws Error unless the file, or the folder, has what a transformer of these layers needs.
  /// `load_folder` as below.
  template <typename Transformer>
  void check(Transformer (*load_folder)(const std::filesystem::path&, const torch::TensorOptions&,
                                        const LoadProgress&),
             const torch::nn::Module& outline, const std::vector<ForeignModule>& foreign) const {
    if (file.empty()) {
      load_folder(folder, torch::kMeta, {});
    } else {
      check_single_file(outline, file, foreign);
    }
  }

  /// The transformer: `load_folder` is the family's own loader.
  template <typename Transformer, typename Config>
  Transformer load(Transformer (*load_folder)(const std::filesystem::path&,
                                              const torch::TensorOptions&, const LoadProgress&),
                   const Config& config, const std::vector<ForeignModule>& foreign,
                   const torch::TensorOptions& options, const LoadProgress& on_progress) const {
    if (file.empty()) return load_folder(folder, options, on_progress);
    Transformer transformer(config, options);
    load_single_file(*transformer, file, foreign);
    transformer->eval();
    return transformer;
  }
};

/// Throws Error, in the name of `part`, unless parameters like those of the modules (device meta)
/// fit together into the memory that is free. Tables of tokens stay on the host.
void require_part_memory(const std::filesystem::path& part,
                         const std::vector<const torch::nn::Module*>& modules,
                         const torch::TensorOptions& options);

/// Tells the contents of a model's parts from others': of small files by their bytes, of weights by
/// size, time of the last change and both ends, since to read them is what a cache is to save.
std::string parts_revision(const std::filesystem::path& folder,
                           const std::vector<std::string>& parts);

/// Throws Error, in the name of a model's folder, for parts that do not fit together.
class PartsFit {
 public:
  explicit PartsFit(const std::filesystem::path& folder) : where_(printable(folder.string())) {}

  /// `what`: the values' names, the one that is wrong first.
  void equal(const char* what, std::int64_t required, std::int64_t arrived) const;

  /// `reason` for the limit.
  void at_least(const char* what, std::int64_t required, const char* reason,
                std::int64_t arrived) const;

 private:
  std::string where_;
};

}  // namespace rtlynx
