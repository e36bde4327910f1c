// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/image.h"

namespace rtlynx {

/// Writes the first `count` of a method's pictures as <method>-0000.png and so on, for a report; no
/// folder: none.
void write_method_pictures(const std::filesystem::path& folder, const std::string& method,
                           const std::vector<Image>& pictures, int count);

/// A batch in which sums are rounded otherwise than where `at_once` pictures are drawn at once, of
/// the `batch` that was asked for.
int other_batch(int at_once, int batch);

}  // namespace rtlynx
