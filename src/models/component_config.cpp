// SPDX-License-Identifier: Apache-2.0
#include "models/component_config.h"

#include <algorithm>

#include "base/error.h"
#include "io/json.h"

namespace rtlynx {

void check_component(const nlohmann::json& config, std::string_view class_name,
                     std::span<const std::string_view> options, const std::string& where) {
  const std::string kind = json_string(config, "_class_name", where);
  require(kind == class_name, where, "_class_name " + std::string(class_name), kind);
  for (const auto& [key, value] : config.items()) {
    const bool known = key.starts_with("_") || value.is_null() ||
                       std::find(options.begin(), options.end(), key) != options.end();
    require(known, where, "only the options of a plain " + std::string(class_name),
            "\"" + key + "\": " + printable_json(value) + ", which is not supported");
  }
}

}  // namespace rtlynx
