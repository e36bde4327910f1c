// SPDX-License-Identifier: Apache-2.0
#include "layers/side_stream.h"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace rtlynx {

struct SideStream::State {
  explicit State(torch::Device device)
      : streams(device.type()),
        side(streams.getStreamFromGlobalPool(device, /*isHighPriority=*/true)),
        fork(device.type()),
        join(device.type()) {}

  c10::impl::VirtualGuardImpl streams;
  c10::Stream side;
  c10::Event fork, join;
};

SideStream::SideStream(torch::Device device) {
  if (!device.is_cpu()) state_ = std::make_shared<State>(device);
}

void SideStream::run(const std::function<void()>& side, const std::function<void()>& own) const {
  if (state_ == nullptr) {
    side();
    own();
    return;
  }
  const c10::Stream current = state_->streams.getStream(state_->side.device());
  state_->fork.record(current);
  state_->fork.block(state_->side);
  {
    const c10::StreamGuard guard(state_->side);
    side();
    state_->join.record(state_->side);
  }
  own();
  state_->join.block(current);
}

}  // namespace rtlynx
