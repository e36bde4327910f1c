// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace rtlynx::cli {

/// The files of a command, against each other and against the disk: what can be known of them
/// before the work is said before the work. Options that were not given, with an empty path, do not
/// count.
class FilePlan {
 public:
  /// A file that is read.
  void read(const std::string& option, const std::filesystem::path& path);
  /// A folder whose files are read: nothing may be written into it.
  void read_folder(const std::string& option, const std::filesystem::path& folder);
  /// A model's folder: its parts are read, the folder itself may hold other files.
  void read_model(const std::filesystem::path& folder);

  /// A file that is written, or gone on with and written again.
  void write(const std::string& option, const std::filesystem::path& path);
  /// A folder that files are written to; make_folder makes it.
  void write_folder(const std::string& option, const std::filesystem::path& folder);

  /// Throws UsageError for a file that is both read and written, or written twice, and for a folder
  /// that is not there; Error for what the system would not let be written.
  void check() const;

 private:
  struct Entry {
    std::string option;
    std::filesystem::path path;
  };

  std::vector<Entry> read_files_, read_folders_;
  std::vector<Entry> written_files_, written_folders_;
};

/// Prints a command's report as JSON. Throws Error for a number in it that is not finite.
void print_report(const nlohmann::ordered_json& report, const std::string& command);

/// Makes the folder, and those above it, unless it is there; throws Error if it cannot be.
void make_folder(const std::filesystem::path& folder);

}  // namespace rtlynx::cli
