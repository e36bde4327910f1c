// SPDX-License-Identifier: Apache-2.0
#include "io/memory.h"

#include <gtest/gtest.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <vector>

namespace rtlynx {
namespace {

TEST(Memory, IsSomeOfTheSystems) {
  struct sysinfo system {};
  ASSERT_EQ(sysinfo(&system), 0);
  const auto available = available_memory();
  ASSERT_TRUE(available);
  EXPECT_GT(*available, 0U);
  EXPECT_LE(*available, std::uint64_t{system.totalram} * system.mem_unit);
}

TEST(Memory, IsSaidInWholeMebiOrTenthsOfGibibytes) {
  EXPECT_EQ(memory_text(0), "0 MiB");
  EXPECT_EQ(memory_text(std::uint64_t{12} << 20), "12 MiB");
  EXPECT_EQ(memory_text((std::uint64_t{1} << 30) - 1), "1024 MiB");
  EXPECT_EQ(memory_text(std::uint64_t{41} << 30 | std::uint64_t{1} << 29), "41.5 GiB");
}

TEST(Memory, ThePeakIsKept) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  const std::uint64_t before = peak_host_memory();
  { const std::vector<char> touched(kBytes, 1); }
  EXPECT_GE(peak_host_memory(), std::max<std::uint64_t>(before, kBytes));
}

}  // namespace
}  // namespace rtlynx
