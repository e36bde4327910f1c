// SPDX-License-Identifier: Apache-2.0
#include "layers/side_stream.h"

#include <gtest/gtest.h>

#include <string>

namespace rtlynx {
namespace {

TEST(SideStream, RunsOneAfterTheOtherOnTheCpu) {
  const SideStream streams(torch::kCPU);
  std::string order;
  streams.run([&] { order += "side "; }, [&] { order += "own"; });
  EXPECT_EQ(order, "side own");
}

// The chain takes the GPU long: who does not wait for it reads what is not there yet.
TEST(SideStreamOnGpu, WaitsAndIsWaitedFor) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  const torch::NoGradGuard no_grad;
  torch::manual_seed(3);
  const torch::Tensor x = torch::randn({2048, 2048}, torch::kCUDA);
  const auto chain = [&](torch::Tensor y) {
    for (int i = 0; i < 50; ++i) y = y.matmul(x) / 45;  // about the size of x again
    return y;
  };
  const torch::Tensor first = chain(x), expected = chain(first) + (first - 1);
  const SideStream streams(x.device());
  for (int i = 0; i < 3; ++i) {
    const torch::Tensor before = chain(x);
    torch::Tensor side, own;
    streams.run([&] { side = chain(before); }, [&] { own = before - 1; });
    EXPECT_TRUE(torch::allclose(side + own, expected, /*rtol=*/1e-3, /*atol=*/1e-3));
  }
}

}  // namespace
}  // namespace rtlynx
