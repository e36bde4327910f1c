// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/kernel_class.h"

#include <gtest/gtest.h>

namespace rtlynx::step_benchmark {
namespace {

TEST(KernelClassTest, EveryKernelHasAClass) {
  EXPECT_EQ(class_of_kernel("void rtlynx::sm90::pack24_kernel<...>(Params)"), "pack");
  EXPECT_EQ(class_of_kernel("rtlynx::sm90::product24_kernel"), "sparse product");
  EXPECT_EQ(class_of_kernel("residual_norm_kernel<Bf16, 8>"), "rows");
  EXPECT_EQ(class_of_kernel("head_norm_kernel<Bf16>"), "rows");
  EXPECT_EQ(class_of_kernel("swiglu_kernel<Bf16>"), "rows");
  EXPECT_EQ(class_of_kernel("cudnn_generated_fort_native_sdpa_sm90_flash_fprop"), "attention");
  EXPECT_EQ(class_of_kernel("nvjet_sm90_tst_256x128_64x4_bias_TNT"), "dense product");
  EXPECT_EQ(class_of_kernel("sm90_xmma_gemm_bf16bf16"), "dense product");
  EXPECT_EQ(class_of_kernel("at::native::vectorized_elementwise_kernel"), "other");
}

}  // namespace
}  // namespace rtlynx::step_benchmark
