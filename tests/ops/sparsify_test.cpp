// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "ops/ops.h"
#include "ops/places.h"
#include "rtlynx/compress24.h"

namespace rtlynx {
namespace {

class OpsSparsify : public testing::PlaceTest {
 protected:
  static at::Tensor adversarial(std::int64_t rows, std::int64_t columns, std::uint32_t seed) {
    const auto bytes = testing::adversarial_rows(dtype(), rows, columns, seed);
    at::Tensor tensor = at::empty({rows, columns}, testing::scalar_type(dtype()));
    if (!bytes.empty()) std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
    return here(tensor);
  }
};

TEST_P(OpsSparsify, GivesTheSpecifiedBits) {
  // Enough rows for several threads, and a count that no range divides.
  for (const auto& x : {adversarial(997, 192, 1), adversarial(3, 16, 2), adversarial(0, 32, 3),
                        normal({130, 3072})}) {
    const testing::SpecifiedPack expected = testing::specified_pack(x, {});
    const auto [kept, scale] = ops::sparsify24(x);
    EXPECT_TRUE(testing::same_bits(kept, testing::kept_of(expected))) << x.sizes();
    EXPECT_TRUE(at::allclose(scale.cpu(), expected.scale, /*rtol=*/1e-5, /*atol=*/0)) << x.sizes();
  }
}

TEST_P(OpsSparsify, WithoutNormScalesByOne) {
  const auto [kept, scale] = ops::sparsify24(normal({7, 32}), /*norm=*/false);
  EXPECT_TRUE(at::equal(scale.cpu(), at::ones({7})));
}

TEST_P(OpsSparsify, TakesAnyRankAndStrides) {
  const at::Tensor base = normal({6, 40, 5});
  const at::Tensor views[] = {
      base.transpose(1, 2),                                        // strided channels
      base.transpose(1, 2)[2][3],                                  // one token
      base.permute({2, 0, 1}),                                     // every dimension moved
      base.flatten().slice(0, 1, 1 + 4 * 48).view({2, 2, 1, 48}),  // not on a vector boundary
      base.narrow(1, 0, 8).transpose(1, 2)[1],                     // rows apart
  };
  for (const at::Tensor& x : views) {
    const auto [kept, scale] = ops::sparsify24(x);
    const auto [flat_kept, flat_scale] = ops::sparsify24(x.contiguous().view({-1, x.size(-1)}));
    EXPECT_EQ(kept.sizes(), x.sizes());
    EXPECT_TRUE(kept.is_contiguous());
    EXPECT_TRUE(testing::same_bits(kept.view_as(flat_kept), flat_kept));
    EXPECT_TRUE(testing::same_bits(scale.view_as(flat_scale), flat_scale));
  }
}

RTLYNX_IN_PLACES(OpsSparsify);

}  // namespace
}  // namespace rtlynx
