// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace rtlynx {

/// Bytes that this process can still take: what the system has available and what the control
/// groups around the process leave, page cache that can be dropped included. Nothing where the
/// system does not say.
std::optional<std::uint64_t> available_memory();

/// The most that this process had in memory so far, in bytes: pages of mapped files among it.
std::uint64_t peak_host_memory();

/// "5.3 GiB", or "12 MiB" below one.
std::string memory_text(std::uint64_t bytes);

}  // namespace rtlynx
