// SPDX-License-Identifier: Apache-2.0
#include "io/memory.h"

#include <gtest/gtest.h>
#include <sys/sysinfo.h>

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

}  // namespace
}  // namespace rtlynx
