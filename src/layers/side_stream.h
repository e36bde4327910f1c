// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "base/libtorch.h"

namespace rtlynx {

/// A second stream of a GPU, for work that would leave most of it idle: it runs beside the current
/// stream's. In a CUDA graph it becomes a branch. On the CPU one runs after the other.
class SideStream {
 public:
  /// For work on `device`. Copies share the stream.
  explicit SideStream(torch::Device device);

  /// Starts `side` on the side stream, then `own` on the current one. Both wait for what the
  /// current stream was given before, and what it is given afterwards waits for both.
  ///
  /// A tensor's memory goes back to the stream that made it as soon as the last handle goes, for
  /// its next call: a tensor that `side` reads and another stream made must outlive this call. What
  /// `side` makes may be read on the current stream: the next run() waits for that.
  void run(const std::function<void()>& side, const std::function<void()>& own) const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // null on the CPU
};

}  // namespace rtlynx
