// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rtlynx {

/// Parses strict JSON: a key twice in one object, a NUL byte, invalid UTF-8, or nesting deeper than
/// `max_depth` is an Error that starts with `what` and gives line and column.
nlohmann::json parse_json(std::string_view text, std::string_view what, int max_depth = 64);

/// `value` on one line, as an error message may show it.
std::string printable_json(const nlohmann::json& value);

nlohmann::json read_json_file(const std::filesystem::path& path);

/// Whether `object` has the key with a value other than null.
bool json_has(const nlohmann::json& object, std::string_view key);

/// A report as a file holds it, indented. JSON has no infinity and no NaN: throws Error, naming the
/// place in the report, for a number that is not finite, which would silently become null.
std::string report_text(const nlohmann::ordered_json& report, std::string_view where);

/// `value`, or null if it is not finite: of scores that may not exist.
nlohmann::ordered_json number_or_null(double value);

/// What nlohmann's exception says, without its class and number.
std::string json_complaint(const nlohmann::json::exception& error);

/// Bounds are inclusive. Without a fallback the key must be there; with one, a key that is absent
/// or null takes it, as in the config.json of diffusers.
struct JsonIntField {
  std::int64_t min = std::numeric_limits<std::int64_t>::min();
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
  std::optional<std::int64_t> fallback;
};

struct JsonNumberField {
  double min = std::numeric_limits<double>::lowest();
  double max = std::numeric_limits<double>::max();
  std::optional<double> fallback;
};

/// Typed reads of one key. `where` names the file; errors are
/// "<where>, key "<key>": required <type and range>, got <value>".
std::int64_t json_int(const nlohmann::json& object, std::string_view key, std::string_view where,
                      const JsonIntField& field = {});
/// Takes integers as well.
double json_number(const nlohmann::json& object, std::string_view key, std::string_view where,
                   const JsonNumberField& field = {});
bool json_bool(const nlohmann::json& object, std::string_view key, std::string_view where,
               std::optional<bool> fallback = std::nullopt);
std::string json_string(const nlohmann::json& object, std::string_view key, std::string_view where,
                        const std::optional<std::string>& fallback = std::nullopt);
/// A list of integers, each within field.min and field.max; `field.fallback` is not used.
std::vector<std::int64_t> json_ints(const nlohmann::json& object, std::string_view key,
                                    std::string_view where, const JsonIntField& field = {});
std::vector<std::string> json_strings(const nlohmann::json& object, std::string_view key,
                                      std::string_view where);

}  // namespace rtlynx
