// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "base/libtorch.h"

namespace rtlynx {

/// 16 hexadecimal digits that tell one set of weights from another: a 64-bit hash (not a
/// cryptographic one) of every parameter's name, shape and values rounded to bf16, so that a
/// checkpoint has the same revision whatever type it is loaded as.
std::string weights_revision(const torch::nn::Module& model);

/// The same for the bytes of a file.
std::string file_revision(const std::filesystem::path& path);

}  // namespace rtlynx
