// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/libtorch.h"

namespace rtlynx {

/// Throws Error, in the name of `what`, unless `bytes` can be had on a device: of a GPU's free
/// memory and what torch holds of it unused, or of the host's. Says how much is needed and free.
/// Where nobody says what is free, it does not throw.
void require_memory(const std::string& what, std::uint64_t bytes, torch::Device device);

/// The most that torch's tensors took of a GPU at a time, in bytes; nothing for the host.
std::optional<std::uint64_t> peak_memory(torch::Device device);

/// Gives what freed tensors took back to the device, for tensors of other sizes.
void release_freed_memory(torch::Device device);

}  // namespace rtlynx
