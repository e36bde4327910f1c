// SPDX-License-Identifier: Apache-2.0
#include "models/device_memory.h"

#include <c10/core/CachingDeviceAllocator.h>

#include <optional>

#include "base/error.h"
#include "io/memory.h"

namespace rtlynx {
namespace {

std::optional<std::uint64_t> free_memory(torch::Device device) {
  if (device.is_cpu()) return available_memory();
  torch::empty({1}, torch::TensorOptions(device));  // torch's allocator is made with the first one
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(device.type());
  const auto index = device.has_index() ? device.index() : c10::DeviceIndex{0};
  const auto stats = allocator->getDeviceStats(index);
  const auto unused = stats.reserved_bytes[0].current - stats.allocated_bytes[0].current;
  return allocator->getMemoryInfo(index).first + static_cast<std::uint64_t>(unused);
}

}  // namespace

void require_memory(const std::string& what, std::uint64_t bytes, torch::Device device) {
  const std::optional<std::uint64_t> free = free_memory(device);
  if (!free || *free >= bytes) return;
  fail(what, memory_text(bytes) + " of " + (device.is_cpu() ? "memory" : device.str()),
       memory_text(*free) + " free");
}

}  // namespace rtlynx
