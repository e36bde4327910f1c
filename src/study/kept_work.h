// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/image.h"
#include "io/folder_use.h"
#include "study/velocity_error.h"

namespace rtlynx {

/// What an evaluation has made for all of its methods, in a folder, so that one that goes on does
/// not make it again. Safetensors files, each there only when complete; those of another evaluation
/// do not count and are replaced. Throws Error for a file that is none of these.
class KeptWork {
 public:
  /// `settings`, an object, is everything that decides the work; an empty folder keeps nothing.
  KeptWork(std::filesystem::path folder, const nlohmann::ordered_json& settings);

  std::optional<std::vector<Image>> dense_pictures() const;
  void keep_dense_pictures(const std::vector<Image>& pictures) const;

  std::optional<DenseTrajectory> trajectory(torch::Device device) const;
  void keep(const DenseTrajectory& trajectory) const;

  /// Where calibrate() may keep sums under a name of their own; empty if nothing is kept.
  std::filesystem::path sums_file(const std::string& sums) const;

  /// Removes the files, and the folder unless others are in it. Does nothing while another process
  /// works with them: the last one removes them.
  void remove();

 private:
  using Tensors = std::map<std::string, torch::Tensor>;
  std::optional<Tensors> read(const std::string& name, std::string* description = nullptr) const;
  void write(const std::string& name, const Tensors& tensors,
             const std::string& description = {}) const;
  std::filesystem::path file(const std::string& name) const;
  void use_folder() const;

  std::filesystem::path folder_;
  std::string settings_;
  mutable std::optional<FolderUse> in_use_;  ///< shared, once the folder is there
};

}  // namespace rtlynx
