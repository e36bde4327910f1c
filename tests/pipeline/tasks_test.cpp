// SPDX-License-Identifier: Apache-2.0
#include "pipeline/tasks.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <stdexcept>

namespace rtlynx {
namespace {

class Tasks : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(3); }
  void TearDown() override { at::set_num_threads(threads_); }

  int threads_ = at::get_num_threads();
  std::mutex mutex_;
};

TEST_F(Tasks, EachRunsOnce) {
  for (const std::size_t count : {0U, 1U, 2U, 10U}) {
    std::multiset<std::size_t> ran, expected;
    for (std::size_t i = 0; i < count; ++i) expected.insert(i);
    run_tasks(torch::kCPU, count, [&](std::size_t i) {
      const std::scoped_lock lock(mutex_);
      ran.insert(i);
    });
    EXPECT_EQ(ran, expected);
  }
}

TEST_F(Tasks, OperatorsInOneOfSeveralRunOnOneThread) {
  run_tasks(torch::kCPU, 6, [&](std::size_t) {
    const bool inside = at::in_parallel_region();
    const std::scoped_lock lock(mutex_);
    EXPECT_TRUE(inside);
  });
  run_tasks(torch::kCPU, 1, [](std::size_t) { EXPECT_FALSE(at::in_parallel_region()); });
}

TEST_F(Tasks, NoneBeginsAfterOneThrew) {
  std::size_t ran = 0;
  EXPECT_THROW(run_tasks(torch::kCPU, 1000,
                         [&](std::size_t i) {
                           const std::scoped_lock lock(mutex_);
                           ++ran;
                           if (i == 4) throw std::runtime_error("four");
                         }),
               std::runtime_error);
  EXPECT_GE(ran, 5U);
  EXPECT_LT(ran, 1000U);
}

}  // namespace
}  // namespace rtlynx
