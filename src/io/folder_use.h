// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace rtlynx {

/// Says to other processes, while it lives, that a folder's files are in use, so that the last of
/// those who share them removes them. Where a file system has no locks it says nothing.
class FolderUse {
 public:
  explicit FolderUse(const std::filesystem::path& folder);
  ~FolderUse();
  FolderUse(const FolderUse&) = delete;
  FolderUse& operator=(const FolderUse&) = delete;

  /// Whether nobody else uses the folder; then nobody can begin to. Otherwise this use has ended.
  bool end_alone();

 private:
  int descriptor_ = -1;
};

}  // namespace rtlynx
