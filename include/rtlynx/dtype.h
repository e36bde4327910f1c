// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace rtlynx {

/// Element types of activations and weights. f16 is IEEE binary16, bf16 the upper half of f32, e4m3
/// the 8-bit type of OCP FP8 (no infinity, at most 448), which only the kept values of an input and
/// weights can have. Everything is little-endian and naturally aligned.
enum class DType : std::uint8_t { f32, f16, bf16, e4m3 };

/// Bytes per element; 0 for a value outside the enumeration.
constexpr int size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::e4m3:
      return 1;
  }
  return 0;
}

/// "f32", "f16", "bf16", "e4m3"; "unknown" for a value outside the enumeration.
constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::e4m3:
      return "e4m3";
  }
  return "unknown";
}

}  // namespace rtlynx
