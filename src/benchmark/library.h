// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

namespace rtlynx::benchmark {

/// A shared library that is looked for at run time. It stays loaded until the process ends: vendor
/// libraries do not all survive being unloaded.
class Library {
 public:
  /// Tries the names in each of the folders, then in those of $RTLYNX_LIBRARY_PATH (separated by
  /// colons), then as the loader does. Throws Error with the loader's first complaint.
  Library(std::span<const char* const> names, const std::vector<std::string>& folders);

  /// The function `name` of type Function; throws Error if there is none.
  template <typename Function>
  void load(Function*& function, const char* name) const {
    function = reinterpret_cast<Function*>(address_of(name));
  }

  const std::string& path() const { return path_; }

 private:
  void* address_of(const char* name) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace rtlynx::benchmark
