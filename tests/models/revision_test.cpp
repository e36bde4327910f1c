// SPDX-License-Identifier: Apache-2.0
#include "models/revision.h"

#include <gtest/gtest.h>

#include "io/file.h"
#include "layers/sparse_linear.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

SparseLinear linear_with(std::uint64_t seed) {
  torch::manual_seed(seed);
  SparseLinear linear(8, 5);
  const torch::NoGradGuard no_grad;
  linear->weight.copy_(torch::randn({5, 8}).to(torch::kBFloat16));
  linear->bias.copy_(torch::randn({5}).to(torch::kBFloat16));
  return linear;
}

TEST(WeightsRevision, IsOfTheValues) {
  const std::string revision = weights_revision(*linear_with(1));
  EXPECT_EQ(revision.size(), 16U);
  EXPECT_EQ(revision.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(weights_revision(*linear_with(1)), revision);
  EXPECT_NE(weights_revision(*linear_with(2)), revision);
}

TEST(WeightsRevision, SeesOneChangedValueAndAnOrder) {
  SparseLinear linear = linear_with(1);
  const std::string revision = weights_revision(*linear);
  const torch::NoGradGuard no_grad;
  linear->bias[4] += 1;  // the last element: not a whole word
  EXPECT_NE(weights_revision(*linear), revision);
  linear = linear_with(1);
  linear->weight.copy_(linear->weight.flip(0));
  EXPECT_NE(weights_revision(*linear), revision);
}

TEST(WeightsRevision, DoesNotDependOnTheTypeThatIsLoaded) {
  SparseLinear linear = linear_with(1);
  const std::string revision = weights_revision(*linear);
  linear->to(torch::kBFloat16);
  EXPECT_EQ(weights_revision(*linear), revision);
}

TEST(WeightsRevision, LeavesOutWhatIsNoParameter) {
  SparseLinear linear = linear_with(1);
  const std::string revision = weights_revision(*linear);
  linear->set_replacement({.weight = torch::zeros({5, 8})});
  EXPECT_EQ(weights_revision(*linear), revision);
}

TEST(FileRevision, IsOfTheBytes) {
  const test::TempDir folder;
  const auto revision_of = [&](std::string_view text) {
    write_file_atomically(folder / "file", text);
    return file_revision(folder / "file");
  };
  const std::string revision = revision_of("lynx");
  EXPECT_EQ(revision.size(), 16U);
  EXPECT_EQ(revision_of("lynx"), revision);
  for (const char* other : {"lynX", "lyn", "lynx "}) EXPECT_NE(revision_of(other), revision);
}

}  // namespace
}  // namespace rtlynx
