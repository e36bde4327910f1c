// SPDX-License-Identifier: Apache-2.0
#include "benchmark/expand.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/half.h"
#include "rtlynx/compress24.h"
#include "rtlynx/operand24.h"

namespace rtlynx::benchmark {
namespace {

std::size_t size_for(std::int64_t bytes) { return static_cast<std::size_t>(bytes); }

/// Codes as bf16.
std::vector<std::byte> widened(const std::vector<std::byte>& codes) {
  std::vector<std::byte> values(2 * codes.size());
  auto* const target = reinterpret_cast<BFloat16*>(values.data());
  std::transform(codes.begin(), codes.end(), target, [](std::byte code) {
    return to_bfloat16(to_float(E4m3{std::to_integer<std::uint8_t>(code)}));
  });
  return values;
}

}  // namespace

DeviceBuffer expand_operand(const void* operand, DType values, std::int64_t rows,
                            std::int64_t channels) {
  const OperandWidth width = values == DType::e4m3 ? OperandWidth::k8 : OperandWidth::k16;
  std::vector<std::byte> packed(size_for(operand24_bytes(rows, channels, width)));
  check_cuda(cudaMemcpy(packed.data(), operand, packed.size(), cudaMemcpyDeviceToHost), "operand");
  std::vector<std::byte> kept(size_for(rows * channels / 2 * size_of(values)));
  std::vector<std::uint16_t> metadata(size_for(rows * channels / 16));
  from_operand24(packed.data(),
                 contiguous(static_cast<void*>(kept.data()), values, rows, channels / 2),
                 metadata.data());
  const DType dtype = values == DType::e4m3 ? DType::bf16 : values;
  if (values == DType::e4m3) kept = widened(kept);
  std::vector<std::byte> dense(size_for(rows * channels * size_of(dtype)));
  expand24(contiguous(static_cast<const void*>(kept.data()), dtype, rows, channels / 2),
           metadata.data(), contiguous(static_cast<void*>(dense.data()), dtype, rows, channels));
  DeviceBuffer buffer(dense.size());
  check_cuda(cudaMemcpy(buffer.data(), dense.data(), dense.size(), cudaMemcpyHostToDevice),
             "expanded operand");
  return buffer;
}

}  // namespace rtlynx::benchmark
