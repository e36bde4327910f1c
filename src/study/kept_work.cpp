// SPDX-License-Identifier: Apache-2.0
#include "study/kept_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "models/tensor_bytes.h"
#include "study/calibration_state.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kWorkFormat = "rtlynx evaluation work 2";
constexpr const char* kPictures = "dense pictures";
constexpr const char* kTrajectory = "dense trajectory";
constexpr std::string_view kSums = "sums ";
constexpr std::string_view kEnding = ".safetensors";

std::string metadata_of(const SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? "" : found->second;
}

const torch::Tensor& tensor_of(const std::map<std::string, torch::Tensor>& tensors,
                               const std::string& name) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail("kept work", "tensor " + in_quotes(name), "none");
  return found->second;
}

// FNV-1a.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char byte : text) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3ULL;
  }
  return hash;
}

bool is_ours(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.ends_with(kEnding)) return false;
  try {
    const std::string format = metadata_of(SafetensorsFile::open(path), "format");
    return format == kWorkFormat || (name.starts_with(kSums) && format == kStatisticsFormat);
  } catch (const Error&) {
    return false;
  }
}

void remove_ours(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> ours;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (is_ours(entry.path())) ours.push_back(entry.path());
  }
  for (const fs::path& path : ours) fs::remove(path, ignored);
  fs::remove(folder, ignored);  // only if it is empty
}

// With guidance both branches read the same latents: one of them is kept.
bool has_two_branches(const DenseTrajectory::Step& record) {
  return record.inputs.hidden_states.size(0) == 2 * static_cast<std::int64_t>(record.prompts);
}

DenseTrajectory trajectory_of(const nlohmann::json& form,
                              const std::map<std::string, torch::Tensor>& tensors,
                              torch::Device device) {
  const auto tensor = [&](const std::string& name) { return tensor_of(tensors, name).to(device); };
  DenseTrajectory trajectory{.prompts = form.at("prompts"), .steps = form.at("steps")};
  FluxInputs shared{.img_ids = tensor("img_ids"), .txt_ids = tensor("txt_ids")};
  for (const nlohmann::json& entry : form.at("records")) {
    const std::string prefix = std::to_string(trajectory.records.size()) + ".";
    const std::size_t first = entry.at("first");
    if (trajectory.records.empty() || trajectory.records.back().first != first) {
      const std::string part = "part " + std::to_string(first);
      shared.encoder_hidden_states = tensor(part + ".text");
      shared.pooled_projections = tensor(part + ".pooled");
    }
    FluxInputs inputs = shared;
    inputs.hidden_states = tensor(prefix + "latents");
    if (entry.at("two_branches").get<bool>()) {
      inputs.hidden_states = torch::cat({inputs.hidden_states, inputs.hidden_states});
    }
    inputs.timestep = tensor(prefix + "timestep");
    if (tensors.contains(prefix + "guidance")) inputs.guidance = tensor(prefix + "guidance");
    trajectory.records.push_back({.step = entry.at("step"),
                                  .first = first,
                                  .prompts = entry.at("prompts"),
                                  .apart = entry.at("apart"),
                                  .inputs = inputs,
                                  .velocity = tensor(prefix + "velocity")});
  }
  return trajectory;
}

}  // namespace

KeptWork::KeptWork(fs::path folder, const Json& settings)
    : folder_(std::move(folder)), settings_(settings.dump()) {
  std::error_code ignored;
  if (!folder_.empty() && fs::is_directory(folder_, ignored)) use_folder();
}

// Makes it if need be.
void KeptWork::use_folder() const {
  fs::create_directories(folder_);
  if (!in_use_) in_use_.emplace(folder_);
}

fs::path KeptWork::file(const std::string& name) const {
  return folder_ / (name + std::string(kEnding));
}

fs::path KeptWork::sums_file(const std::string& sums) const {
  if (folder_.empty()) return {};
  use_folder();
  // The sums do not hold these settings: their name does.
  return file(fmt::format("{}{} {:016x}", kSums, sums, hash_of(settings_)));
}

std::optional<KeptWork::Tensors> KeptWork::read(const std::string& name,
                                                std::string* description) const {
  if (folder_.empty() || !fs::exists(file(name))) return std::nullopt;
  const SafetensorsFile opened = SafetensorsFile::open(file(name));
  const std::string where = printable(file(name).string());
  require(metadata_of(opened, "format") == kWorkFormat, where,
          std::string("a file of \"") + kWorkFormat + "\"", "another");
  if (metadata_of(opened, "settings") != settings_) return std::nullopt;
  Tensors tensors;
  for (const std::string& tensor : opened.names()) {
    tensors[tensor] = copy_to_tensor(opened.entry(tensor), where + ", tensor " + printable(tensor));
  }
  if (description != nullptr) *description = metadata_of(opened, "description");
  return tensors;
}

void KeptWork::write(const std::string& name, const Tensors& tensors,
                     const std::string& description) const {
  if (folder_.empty()) return;
  use_folder();
  const std::vector<std::pair<std::string, torch::Tensor>> list(tensors.begin(), tensors.end());
  const TensorBytes bytes(list);
  write_safetensors(
      file(name), bytes.entries(),
      {{"format", kWorkFormat}, {"settings", settings_}, {"description", description}});
}

std::optional<std::vector<Image>> KeptWork::dense_pictures() const {
  const auto tensors = read(kPictures);
  if (!tensors) return std::nullopt;
  const torch::Tensor& all = tensor_of(*tensors, "rgb");  // [n, H, W, 3]
  require(all.scalar_type() == torch::kUInt8 && all.dim() == 4 && all.size(3) == 3,
          printable(file(kPictures).string()), "uint8 pictures [n, H, W, 3]", "another tensor");
  std::vector<Image> pictures;
  for (std::int64_t i = 0; i < all.size(0); ++i) {
    Image& picture =
        pictures.emplace_back(static_cast<int>(all.size(2)), static_cast<int>(all.size(1)));
    std::memcpy(picture.rgb.data(), all[i].const_data_ptr(), picture.rgb.size());
  }
  return pictures;
}

void KeptWork::keep_dense_pictures(const std::vector<Image>& pictures) const {
  if (folder_.empty() || pictures.empty()) return;
  const Image& first = pictures.front();
  torch::Tensor all = torch::empty(
      {static_cast<std::int64_t>(pictures.size()), first.height, first.width, 3}, torch::kUInt8);
  auto* at = all.mutable_data_ptr<std::uint8_t>();
  for (const Image& picture : pictures) at = std::copy(picture.rgb.begin(), picture.rgb.end(), at);
  write(kPictures, {{"rgb", all}});
}

std::optional<DenseTrajectory> KeptWork::trajectory(torch::Device device) const {
  std::string description;
  const auto tensors = read(kTrajectory, &description);
  if (!tensors) return std::nullopt;
  const std::string where = printable(file(kTrajectory).string());
  const nlohmann::json form = parse_json(description, where);
  try {
    return trajectory_of(form, *tensors, device);
  } catch (const nlohmann::json::exception& error) {
    fail(where, "the description of a trajectory", "another: " + json_complaint(error));
  }
}

void KeptWork::keep(const DenseTrajectory& trajectory) const {
  if (folder_.empty() || trajectory.records.empty()) return;
  const FluxInputs& shared = trajectory.records.front().inputs;
  Tensors tensors = {{"img_ids", shared.img_ids}, {"txt_ids", shared.txt_ids}};
  Json records = Json::array();
  for (const DenseTrajectory::Step& record : trajectory.records) {
    const std::string prefix = std::to_string(records.size()) + ".";
    const std::string part = "part " + std::to_string(record.first);
    const auto prompts = static_cast<std::int64_t>(record.prompts);
    tensors[part + ".text"] = record.inputs.encoder_hidden_states;
    tensors[part + ".pooled"] = record.inputs.pooled_projections;
    tensors[prefix + "latents"] = record.inputs.hidden_states.narrow(0, 0, prompts);
    tensors[prefix + "timestep"] = record.inputs.timestep;
    if (record.inputs.guidance.defined()) tensors[prefix + "guidance"] = record.inputs.guidance;
    tensors[prefix + "velocity"] = record.velocity;
    records.push_back({{"step", record.step},
                       {"first", record.first},
                       {"prompts", record.prompts},
                       {"apart", record.apart},
                       {"two_branches", has_two_branches(record)}});
  }
  write(kTrajectory, tensors,
        Json({{"prompts", trajectory.prompts}, {"steps", trajectory.steps}, {"records", records}})
            .dump());
}

void KeptWork::remove() {
  std::error_code ignored;
  if (folder_.empty() || !fs::is_directory(folder_, ignored)) return;
  use_folder();
  if (in_use_->end_alone()) remove_ours(folder_);
  in_use_.reset();
}

}  // namespace rtlynx
