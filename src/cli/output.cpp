// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <sys/stat.h>

#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/terminal.h"
#include "io/text.h"
#include "mini/mini_pipeline.h"

namespace rtlynx::cli {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// Where the path leads, whatever links and dots are in it, whether or not the file is there.
fs::path place_of(const fs::path& path) {
  std::error_code ignored;
  const fs::path absolute = fs::weakly_canonical(fs::absolute(path, ignored), ignored);
  return absolute.empty() ? path : absolute;
}

/// What tells a file from any other, links included; nothing where there is none.
std::optional<std::pair<dev_t, ino_t>> identity_of(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return std::pair(status.st_dev, status.st_ino);
}

/// Files by the option that named them, under all their names.
class Claims {
 public:
  void add(const std::string& option, const fs::path& path) {
    places_.emplace(place_of(path), option);
    if (const auto identity = identity_of(path)) identities_.emplace(*identity, option);
  }
  void add_folder(const std::string& option, const fs::path& folder) {
    folders_.emplace_back(place_of(folder), option);
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) add(option, entry.path());
  }

  /// Whose the file is, or null.
  const std::string* owner_of(const fs::path& path) const {
    const fs::path place = place_of(path);
    if (const auto found = places_.find(place); found != places_.end()) return &found->second;
    if (const auto identity = identity_of(path)) {
      const auto found = identities_.find(*identity);
      if (found != identities_.end()) return &found->second;
    }
    for (const auto& [folder, option] : folders_) {
      const fs::path relative = place.lexically_relative(folder);
      if (!relative.empty() && *relative.begin() != "..") return &option;
    }
    return nullptr;
  }

 private:
  std::map<fs::path, std::string> places_;
  std::map<std::pair<dev_t, ino_t>, std::string> identities_;
  std::vector<std::pair<fs::path, std::string>> folders_;
};

void require_folder(const std::string& option, const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    throw UsageError(option + ": required an existing folder, got " + printable(folder.string()));
  }
}

void check_name(const std::string& option, const fs::path& path) {
  require_folder(option, folder_of(path));
  std::error_code ignored;
  if (fs::is_directory(path, ignored) || !path.has_filename()) {
    throw UsageError(option + ": required a file, got the folder " + printable(path.string()));
  }
  check_replaceable(path);
}

// A file of any name, in the folder or in the nearest one that is there, where it has to be made.
void check_folder(const std::string& option, const fs::path& folder) {
  constexpr const char* kProbe = "rtlynx";
  std::error_code ignored;
  fs::path nearest = folder;
  while (!fs::exists(fs::symlink_status(nearest, ignored))) {
    const fs::path above = folder_of(nearest);
    if (above == nearest) break;
    check_replaceable(nearest);
    nearest = above;
  }
  if (!fs::is_directory(nearest, ignored)) {
    throw UsageError(option + ": required a folder or a new name, got the file " +
                     printable(nearest.string()));
  }
  check_writable(nearest / kProbe);
}

}  // namespace

void FilePlan::read(const std::string& option, const fs::path& path) {
  if (!path.empty()) read_files_.push_back({option, path});
}

void FilePlan::read_folder(const std::string& option, const fs::path& folder) {
  if (!folder.empty()) read_folders_.push_back({option, folder});
}

void FilePlan::read_model(const fs::path& folder) {
  const ModelFiles files = model_files(folder);
  read("--model", files.index);
  for (const fs::path& part : files.parts) read_folder("--model", part);
}

void FilePlan::write(const std::string& option, const fs::path& path) {
  if (!path.empty()) written_files_.push_back({option, path});
}

void FilePlan::write_folder(const std::string& option, const fs::path& folder) {
  if (!folder.empty()) written_folders_.push_back({option, folder});
}

void FilePlan::check() const {
  Claims claims;
  for (const Entry& file : read_files_) claims.add(file.option, file.path);
  for (const Entry& folder : read_folders_) claims.add_folder(folder.option, folder.path);
  for (const Entry& file : written_files_) {
    if (const std::string* owner = claims.owner_of(file.path)) {
      throw UsageError(file.option + ": required another file than those of " + *owner + ", got " +
                       printable(file.path.string()));
    }
    claims.add(file.option, file.path);
  }
  std::set<fs::path> probed;
  for (const Entry& file : written_files_) {
    check_name(file.option, file.path);
    if (probed.insert(folder_of(file.path)).second) check_writable(file.path);
  }
  for (const Entry& folder : written_folders_) check_folder(folder.option, folder.path);
}

void print_report(const nlohmann::ordered_json& report, const std::string& command) {
  report_text(report, command);  // throws
  terminal::show_json(report);
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error && !fs::is_directory(folder)) {
    throw Error("cannot make the folder " + printable(folder.string()) + ": " + error.message());
  }
}

}  // namespace rtlynx::cli
