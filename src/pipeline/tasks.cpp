// SPDX-License-Identifier: Apache-2.0
#include "pipeline/tasks.h"

#include <ATen/Parallel.h>
#include <torch/csrc/stable/c/shim.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

namespace rtlynx {
namespace {

/// Hands out the tasks to whoever comes, until none is left or one threw.
class Tasks {
 public:
  Tasks(std::size_t count, const std::function<void(std::size_t)>& task)
      : count_(count), task_(task) {}

  void work() {
    try {
      for (std::size_t i = next_++; i < count_; i = next_++) task_(i);
    } catch (...) {
      next_ = count_;
      const std::scoped_lock lock(mutex_);
      if (!thrown_) thrown_ = std::current_exception();
    }
  }

  void pass_on() const {
    if (thrown_) std::rethrow_exception(thrown_);
  }

 private:
  std::size_t count_;
  const std::function<void(std::size_t)>& task_;
  std::atomic<std::size_t> next_ = 0;
  std::mutex mutex_;
  std::exception_ptr thrown_;
};

}  // namespace

void run_tasks(const torch::Device& device, std::size_t count,
               const std::function<void(std::size_t)>& task) {
  Tasks tasks(count, task);
  const auto threads =
      std::min<std::int64_t>(at::get_num_threads(), static_cast<std::int64_t>(count));
  if (device.is_cpu() && threads > 1) {
    // at::parallel_for is a template, and serial in code that is compiled without OpenMP: this is
    // the same in torch's own.
    const auto work = [](std::int64_t, std::int64_t, void* all) {
      static_cast<Tasks*>(all)->work();
    };
    TORCH_CHECK(torch_parallel_for(0, threads, /*grain_size=*/1, work, &tasks) == 0,
                "run_tasks: torch did not run them");
  } else {
    tasks.work();
  }
  tasks.pass_on();
}

}  // namespace rtlynx
