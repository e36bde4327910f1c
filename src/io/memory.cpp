// SPDX-License-Identifier: Apache-2.0
#include "io/memory.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

/// The number behind `key` in a file of "key number" lines.
std::optional<std::uint64_t> number_in(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  std::string name;
  std::uint64_t value = 0;
  for (std::string rest; file >> name >> value; std::getline(file, rest)) {
    if (name == key) return value;
  }
  return std::nullopt;
}

/// The number that a file is; nothing for "max".
std::optional<std::uint64_t> number_of(const fs::path& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

/// What a control group (version 2) leaves of its limit.
std::optional<std::uint64_t> left_in(const fs::path& group) {
  const auto limit = number_of(group / "memory.max");
  const auto used = number_of(group / "memory.current");
  if (!limit || !used) return std::nullopt;
  const std::uint64_t cached = number_in(group / "memory.stat", "inactive_file").value_or(0) +
                               number_in(group / "memory.stat", "active_file").value_or(0);
  const std::uint64_t held = *used - std::min(*used, cached);
  return *limit - std::min(*limit, held);
}

/// This process's control group, as a path below the root of all.
fs::path own_group() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::/")) return line.substr(4);
  }
  return {};
}

}  // namespace

std::optional<std::uint64_t> available_memory() {
  const fs::path root = "/sys/fs/cgroup";
  std::optional<std::uint64_t> least = number_in("/proc/meminfo", "MemAvailable:");
  if (least) *least *= 1024;
  const auto take = [&](const std::optional<std::uint64_t>& bytes) {
    if (bytes) least = std::min(least.value_or(*bytes), *bytes);
  };
  // A group's limit holds for all groups below it.
  for (fs::path group = own_group(); !group.empty(); group = group.parent_path()) {
    take(left_in(root / group));
  }
  take(left_in(root));
  return least;
}

std::uint64_t peak_host_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

std::string memory_text(std::uint64_t bytes) {
  constexpr double kMebi = 1 << 20, kGibi = 1 << 30;
  const auto value = static_cast<double>(bytes);
  return value < kGibi ? fmt::format("{:.0f} MiB", value / kMebi)
                       : fmt::format("{:.1f} GiB", value / kGibi);
}

}  // namespace rtlynx
