// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace rtlynx {

/// What a file really is that is not what its name says, and what to do about it, for messages: "a
/// Git LFS pointer, which stands for the file; git lfs pull fetches it". Of its first bytes;
/// nothing for what is not known.
std::optional<std::string> describe_foreign_file(std::span<const std::byte> bytes);

/// The same of tensors whose names show a form that rtlynx does not read: scaled FP8, other
/// quantizations, or FLUX.1's original names. `name` is any tensor's.
std::optional<std::string> describe_foreign_tensor(std::string_view name);

}  // namespace rtlynx
