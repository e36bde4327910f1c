// SPDX-License-Identifier: Apache-2.0
#include "models/device_memory.h"

#include <c10/core/CachingDeviceAllocator.h>

#include "base/error.h"
#include "io/memory.h"

namespace rtlynx {
namespace {

c10::DeviceIndex index_of(torch::Device device) {
  return device.has_index() ? device.index() : c10::DeviceIndex{0};
}

c10::CachingDeviceAllocator::DeviceStats stats_of(torch::Device device) {
  return c10::getDeviceAllocator(device.type())->getDeviceStats(index_of(device));
}

std::optional<std::uint64_t> free_memory(torch::Device device) {
  if (device.is_cpu()) return available_memory();
  torch::empty({1}, torch::TensorOptions(device));  // torch's allocator is made with the first one
  const auto stats = stats_of(device);
  const auto unused = stats.reserved_bytes[0].current - stats.allocated_bytes[0].current;
  return c10::getDeviceAllocator(device.type())->getMemoryInfo(index_of(device)).first +
         static_cast<std::uint64_t>(unused);
}

}  // namespace

void require_memory(const std::string& what, std::uint64_t bytes, torch::Device device) {
  const std::optional<std::uint64_t> free = free_memory(device);
  if (!free || *free >= bytes) return;
  fail(what, memory_text(bytes) + " of " + (device.is_cpu() ? "memory" : device.str()),
       memory_text(*free) + " free");
}

std::optional<std::uint64_t> peak_memory(torch::Device device) {
  if (device.is_cpu()) return std::nullopt;
  return static_cast<std::uint64_t>(stats_of(device).allocated_bytes[0].peak);
}

void release_freed_memory(torch::Device device) {
  if (!device.is_cpu()) c10::getDeviceAllocator(device.type())->emptyCache();
}

}  // namespace rtlynx
