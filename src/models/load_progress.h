// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace rtlynx {

/// Bytes of a checkpoint that were read, of all that are needed; equal in the last call.
using LoadProgress = std::function<void(std::uint64_t finished, std::uint64_t all)>;

}  // namespace rtlynx
