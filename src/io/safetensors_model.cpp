// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/text.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 2> kKnownStems = {"diffusion_pytorch_model", "model"};
constexpr std::string_view kIndexEnding = ".index.json";

using ShardOfTensor = std::map<std::string, std::string>;  // tensor -> file name

ShardOfTensor read_weight_map(const fs::path& index) {
  const std::string what = printable(index.string());
  const nlohmann::json root = read_json_file(index);
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object()) {
    fail(what, "an object \"weight_map\" of tensor names and shard files", "none");
  }
  ShardOfTensor shards;
  for (const auto& [tensor, shard] : root["weight_map"].items()) {
    if (!shard.is_string() || !is_plain_file_name(shard.get_ref<const std::string&>())) {
      fail(fmt::format("{}, tensor {}", what, in_quotes(tensor)),
           "the name of a shard in the same folder",
           shard.is_string() ? in_quotes(shard.get_ref<const std::string&>()) : shard.type_name());
    }
    shards.emplace(tensor, shard.get<std::string>());
  }
  return shards;
}

// What is wrong with an index that a whole file stands beside; empty if nothing.
std::string fault_of(const fs::path& index) {
  std::set<std::string> missing;
  std::error_code ignored;
  try {
    for (const auto& [tensor, shard] : read_weight_map(index)) {
      if (!fs::exists(index.parent_path() / shard, ignored)) missing.insert(shard);
    }
  } catch (const Error&) {
    return "which cannot be read";
  }
  return missing.empty() ? "" : fmt::format("of which {} shards are not there", missing.size());
}

[[noreturn]] void fail_two_forms(const fs::path& folder, std::string_view stem) {
  const std::string single = fmt::format("{}.safetensors", stem);
  const std::string index = single + std::string(kIndexEnding);
  const std::string fault = fault_of(folder / index);
  fail(printable(folder.string()), "one form of the checkpoint",
       fault.empty()
           ? fmt::format("{} and {}, both whole: remove the one that is not meant", single, index)
           : fmt::format("{} and an index, {}: remove the stale {}", single, fault, index));
}

// Whether a file holds the weights in another form: "diffusion_pytorch_model.fp16.safetensors",
// "model.bin".
bool is_other_form(std::string_view name, std::string_view stem) {
  constexpr std::array<std::string_view, 8> kEndings = {
      ".safetensors", ".index.json", ".bin", ".ckpt", ".pt", ".pth", ".gguf", ".msgpack"};
  return name.starts_with(stem) && std::ranges::any_of(kEndings, [&](std::string_view ending) {
           return name.ends_with(ending);
         });
}

[[noreturn]] void fail_none(const fs::path& folder, const std::vector<std::string>& candidates,
                            std::span<const std::string_view> stems) {
  std::set<std::string> others;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (std::ranges::any_of(stems, [&](auto stem) { return is_other_form(name, stem); })) {
      others.insert(name);
    }
  }
  std::string arrived = "none";
  if (!others.empty()) {
    const std::string& first = *others.begin();
    const bool variant = first.find(".safetensors") != std::string::npos;
    arrived = fmt::format(
        "only {}: {}", printable(fmt::format("{}", fmt::join(others, ", "))),
        variant ? "another variant; link or copy its files to the plain names (its type does not "
                  "matter, weights are converted as they are read)"
                : "a form that is not read; take the model's safetensors");
  }
  fail(printable(folder.string()), fmt::format("one of {}", fmt::join(candidates, ", ")), arrived);
}

/// The file in a folder that holds its weights or says where they are.
std::string file_in(const fs::path& folder, std::span<const std::string_view> stems) {
  std::error_code ignored;
  std::vector<std::string> candidates, present;
  for (const std::string_view stem : stems) {
    const std::size_t before = present.size();
    for (const std::string_view ending : {std::string_view(), kIndexEnding}) {
      candidates.push_back(fmt::format("{}.safetensors{}", stem, ending));
      if (fs::exists(folder / candidates.back(), ignored)) present.push_back(candidates.back());
    }
    if (present.size() == before + 2) fail_two_forms(folder, stem);
  }
  if (present.empty()) fail_none(folder, candidates, stems);
  if (present.size() > 1) {
    fail(printable(folder.string()), fmt::format("one of {}", fmt::join(candidates, ", ")),
         fmt::format("{}", fmt::join(present, " and ")));
  }
  return present.front();
}

}  // namespace

SafetensorsModel SafetensorsModel::open(const fs::path& path) { return open(path, kKnownStems); }

SafetensorsModel SafetensorsModel::open(const fs::path& path, std::string_view stem) {
  return open(path, std::span(&stem, 1));
}

SafetensorsModel SafetensorsModel::open(const fs::path& path,
                                        std::span<const std::string_view> stems) {
  std::error_code ignored;
  const fs::path chosen = fs::is_directory(path, ignored) ? path / file_in(path, stems) : path;
  if (chosen.string().ends_with(kIndexEnding)) return open_index(chosen);
  SafetensorsModel model;
  model.path_ = chosen;
  model.add(SafetensorsFile::open(chosen));
  return model;
}

SafetensorsModel SafetensorsModel::open_index(const fs::path& index) {
  const std::string what = printable(index.string());
  const ShardOfTensor shard_of = read_weight_map(index);
  std::map<std::string, std::string> tensor_of_shard;  // one each, for the message
  for (const auto& [tensor, shard] : shard_of) tensor_of_shard.emplace(shard, tensor);

  SafetensorsModel model;
  model.path_ = index;
  for (const auto& [shard, tensor] : tensor_of_shard) {
    const fs::path path = index.parent_path() / shard;
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
      fail(fmt::format("{}, tensor {}", what, in_quotes(tensor)), "shard " + in_quotes(shard),
           fs::is_symlink(path, ignored) ? "a link to a file that is not there" : "no such file");
    }
    model.add(SafetensorsFile::open(path));
  }
  for (const auto& [tensor, shard] : shard_of) {
    const auto found = model.file_of_.find(tensor);
    const std::string held = found == model.file_of_.end()
                                 ? "no such tensor in it"
                                 : model.files_[found->second].path().filename().string();
    if (held != shard) {
      fail(fmt::format("{}, tensor {}", what, in_quotes(tensor)), "it in shard " + in_quotes(shard),
           printable(held));
    }
  }
  for (const std::string& name : model.names_) {
    if (shard_of.contains(name)) continue;
    const SafetensorsFile& file = model.files_[model.file_of_.at(name)];
    fail(fmt::format("{}, tensor {}", printable(file.path().string()), in_quotes(name)),
         "it listed in " + printable(index.filename().string()), "no mention");
  }
  return model;
}

void SafetensorsModel::add(SafetensorsFile file) {
  for (const std::string& name : file.names()) {
    const auto [at, added] = file_of_.emplace(name, files_.size());
    if (!added) {
      fail(fmt::format("{}, tensor {}", printable(path_.string()), in_quotes(name)),
           "it in one shard",
           fmt::format("it in {} and {}", printable(files_[at->second].path().filename().string()),
                       printable(file.path().filename().string())));
    }
    names_.push_back(name);
  }
  files_.push_back(std::move(file));
}

const TensorEntry& SafetensorsModel::entry(std::string_view name) const {
  return file_with(name).entry(name);
}

const SafetensorsFile& SafetensorsModel::file_with(std::string_view name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) {
    fail(printable(path_.string()), "tensor " + in_quotes(name),
         fmt::format("{} tensors, none of that name", names_.size()));
  }
  return files_[found->second];
}

}  // namespace rtlynx
