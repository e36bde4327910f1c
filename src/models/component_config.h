// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

namespace rtlynx {

/// Throws Error, in the name of `where`, unless `config` is the config.json of diffusers'
/// `class_name` and has no options but these. Null is an option not used; names that start with an
/// underscore record how the file came to be.
void check_component(const nlohmann::json& config, std::string_view class_name,
                     std::span<const std::string_view> options, const std::string& where);

}  // namespace rtlynx
