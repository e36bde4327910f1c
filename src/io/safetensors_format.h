// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "io/safetensors.h"
#include "io/text.h"

// What the reader and the writer of safetensors share:
//
//   u64 header size, little-endian | header: JSON, padded with spaces | tensors, back to back
namespace rtlynx::safetensors_format {

constexpr std::size_t kSizeBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr std::size_t kAlignment = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

inline std::string tensor_place(std::string_view what, std::string_view name) {
  return std::string(what) + ", tensor " + in_quotes(name);
}

/// Throws Error unless a tensor of this type and shape has `bytes` bytes.
void check_size(TensorDtype dtype, std::span<const std::int64_t> shape, std::size_t bytes,
                std::string_view place);

}  // namespace rtlynx::safetensors_format
