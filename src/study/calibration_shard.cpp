// SPDX-License-Identifier: Apache-2.0
#include "study/calibration_shard.h"

#include <charconv>

#include "base/error.h"
#include "io/text.h"

namespace rtlynx {
namespace {

constexpr const char* kShardKey = "shard";

}  // namespace

CalibrationShard shard_from_string(std::string_view text) {
  CalibrationShard shard{.index = 0, .count = 0};
  const char* end = text.data() + text.size();
  const auto index = std::from_chars(text.data(), end, shard.index);
  const bool slash = index.ec == std::errc() && index.ptr != end && *index.ptr == '/';
  const auto count = slash ? std::from_chars(index.ptr + 1, end, shard.count) : index;
  const bool valid = slash && count.ec == std::errc() && count.ptr == end && shard.index >= 1 &&
                     shard.index <= shard.count;
  if (!valid) {
    throw UsageError("shard: required i/n with 1 <= i <= n, such as 2/4, got " + printable(text));
  }
  return shard;
}

std::string to_string(const CalibrationShard& shard) {
  return std::to_string(shard.index) + "/" + std::to_string(shard.count);
}

SafetensorsMetadata describe_shard(const CalibrationPart& part,
                                   const std::optional<CalibrationShard>& shard) {
  SafetensorsMetadata description = part.description;
  if (shard) description[kShardKey] = to_string(*shard);
  return description;
}

CalibrationShard read_shard(const std::filesystem::path& file) {
  const SafetensorsFile opened = SafetensorsFile::open(file);
  const auto found = opened.metadata().find(kShardKey);
  if (found == opened.metadata().end()) {
    fail(file.string(), "the statistics of a shard", "none of a shard");
  }
  try {
    return shard_from_string(found->second);
  } catch (const Error& error) {
    throw Error(file.string() + ", metadata " + error.what());
  }
}

}  // namespace rtlynx
