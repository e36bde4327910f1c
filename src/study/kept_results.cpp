// SPDX-License-Identifier: Apache-2.0
#include "study/kept_results.h"

#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/text.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "rtlynx results 1";
constexpr std::size_t kMaxBytes = std::size_t{1} << 30;

// Strictly checked, then with the keys in the order of the file: reports are to come out the same.
Json read_ordered(const std::filesystem::path& path) {
  const std::string text = read_file(path, kMaxBytes);
  parse_json(text, path.string());
  return Json::parse(text);
}

void require_same_settings(const Json& wanted, const Json& kept, const std::string& where) {
  for (const auto& [key, value] : wanted.items()) {
    const bool there = kept.contains(key);
    if (there && kept[key] == value) continue;
    fail(where, "results of this run, with " + key + " = " + value.dump(),
         there ? kept[key].dump() : "none");
  }
  require(kept.size() == wanted.size(), where, "results of this run", "of one with more settings");
}

bool is_ours(const Json& file) {
  return file.is_object() && file.contains("format") && file["format"] == kFormat &&
         file.contains("settings") && file["settings"].is_object() && file.contains("results") &&
         file["results"].is_object();
}

void check_replaced(const std::filesystem::path& path) {
  bool ours = false;
  try {
    ours = is_ours(read_ordered(path));
  } catch (const Error&) {
    ours = false;
  }
  if (ours) return;
  throw UsageError("--restart: required results of rtlynx evaluate to replace, got another file, " +
                   printable(path.string()));
}

}  // namespace

KeptResults::KeptResults(std::filesystem::path path, Json settings, Begin begin)
    : path_(std::move(path)), settings_(std::move(settings)), replaces_(begin == Begin::anew) {
  if (path_.empty() || !std::filesystem::exists(path_)) return;
  replaces_ ? check_replaced(path_) : merge();
}

void KeptResults::merge() {
  const std::string where = path_.string();
  const Json file = read_ordered(path_);
  require(is_ours(file), where, std::string("a file of \"") + kFormat + "\"", "another");
  require_same_settings(settings_, file["settings"], where);
  Json all = file["results"];
  for (auto& [name, result] : results_.items()) {
    if (!all.contains(name)) all[name] = std::move(result);
  }
  results_ = std::move(all);
}

void KeptResults::refresh() {
  if (!path_.empty() && !replaces_ && std::filesystem::exists(path_)) merge();
}

const Json* KeptResults::find(const std::string& name) const {
  const auto found = results_.find(name);
  return found == results_.end() ? nullptr : &*found;
}

void KeptResults::add(const std::string& name, Json result) {
  require(!results_.contains(name), "KeptResults::add", "a new name", name);
  results_[name] = std::move(result);
  if (path_.empty()) return;
  const FolderLock lock(path_.parent_path());
  refresh();
  const Json file = {{"format", kFormat}, {"settings", settings_}, {"results", results_}};
  write_file_atomically(path_, report_text(file, path_.string()));
  replaces_ = false;
}

}  // namespace rtlynx
