// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/tensor_map.h"

namespace rtlynx::device {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, found through the runtime: the library does not link the driver.
Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  constexpr unsigned kCuda12 = 12000;
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                              kCuda12, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<Encode>(function);
}

CUtensorMapDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::f16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::e4m3:
      return CU_TENSOR_MAP_DATA_TYPE_UINT8;
    case DType::f32:
      break;
  }
  return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
}

}  // namespace

cudaError_t make_tensor_map(const TensorBox& box, CUtensorMap& map) {
  static const Encode encode = find_encode();
  if (encode == nullptr) return cudaErrorNotSupported;
  if (box.count < 2 || box.count > kMostAxes) return cudaErrorInvalidValue;
  cuuint64_t sizes[kMostAxes], strides[kMostAxes];
  cuuint32_t box_sizes[kMostAxes], element_strides[kMostAxes];
  for (int i = 0; i < box.count; ++i) {
    const TensorAxis& axis = box.axes[static_cast<std::size_t>(i)];
    sizes[i] = static_cast<cuuint64_t>(axis.size);
    strides[i] = static_cast<cuuint64_t>(axis.stride * size_of(box.dtype));
    box_sizes[i] = static_cast<cuuint32_t>(axis.box);
    element_strides[i] = 1;
  }
  const auto swizzle = box.axes[0].box * size_of(box.dtype) == 128 ? CU_TENSOR_MAP_SWIZZLE_128B
                                                                   : CU_TENSOR_MAP_SWIZZLE_64B;
  const CUresult status = encode(
      &map, type_of(box.dtype), static_cast<cuuint32_t>(box.count), const_cast<void*>(box.data),
      sizes, strides + 1, box_sizes, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return status == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace rtlynx::device
