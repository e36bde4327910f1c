// SPDX-License-Identifier: Apache-2.0
#include "benchmark/library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <sstream>

#include "base/error.h"

namespace rtlynx::benchmark {
namespace {

std::vector<std::string> with_environment(std::vector<std::string> folders) {
  if (const char* variable = std::getenv("RTLYNX_LIBRARY_PATH")) {
    std::istringstream list(variable);
    for (std::string folder; std::getline(list, folder, ':');) {
      if (!folder.empty()) folders.push_back(folder);
    }
  }
  return folders;
}

}  // namespace

Library::Library(std::span<const char* const> names, const std::vector<std::string>& folders) {
  std::vector<std::string> candidates;
  for (const std::string& folder : with_environment(folders)) {
    for (const char* name : names) candidates.push_back(folder + "/" + name);
  }
  for (const char* name : names) candidates.emplace_back(name);
  std::string complaint;
  for (const std::string& candidate : candidates) {
    handle_ = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle_ != nullptr) {
      path_ = candidate;
      return;
    }
    const char* const said = ::dlerror();
    if (complaint.empty() && said != nullptr) complaint = said;
  }
  fail(names.front(), "a library that can be loaded", complaint);
}

void* Library::address_of(const char* name) const {
  void* const address = ::dlsym(handle_, name);
  require(address != nullptr, path_, "the function " + std::string(name), "a library without it");
  return address;
}

}  // namespace rtlynx::benchmark
