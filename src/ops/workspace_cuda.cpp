// SPDX-License-Identifier: Apache-2.0
#include "ops/workspace_cuda.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "kernels/check.h"
#include "kernels/workspace.h"
#include "rtlynx/gpu/device.h"

namespace rtlynx::ops {
namespace {

/// Memory that begins with zeros, in the order of the stream.
Tensor new_workspace(const Tensor& like, std::size_t bytes, cudaStream_t stream) {
  const std::size_t zeros = gpu::zeroed_bytes(gpu::current_device().multiprocessors);
  const std::size_t size = std::max(bytes, zeros);
  Tensor workspace = empty_like_device(like, {static_cast<std::int64_t>(size)}, ScalarType::Byte);
  gpu::check(cudaMemsetAsync(workspace.mutable_data_ptr(), 0, zeros, stream),
             "memset of a workspace");
  return workspace;
}

struct OfStream {
  std::optional<Tensor> kept;      // for calls that run
  std::optional<Tensor> captured;  // for those of one capture
  unsigned long long capture = 0;
};

class Workspaces {
 public:
  gpu::Workspace get(const Tensor& like, std::size_t bytes, cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    unsigned long long capture = 0;
    gpu::check(cudaStreamGetCaptureInfo(stream, &status, &capture), "a workspace");
    const std::lock_guard lock(mutex_);
    OfStream& own = streams_[{like.get_device_index(), stream}];
    if (status != cudaStreamCaptureStatusActive) return enlarge(own.kept, like, bytes, stream);
    if (own.capture != capture) {
      own.captured.reset();
      own.capture = capture;
    }
    return enlarge(own.captured, like, bytes, stream);
  }

 private:
  /// What a call still uses goes back to torch in the stream's order.
  static gpu::Workspace enlarge(std::optional<Tensor>& workspace, const Tensor& like,
                                std::size_t bytes, cudaStream_t stream) {
    if (!workspace || static_cast<std::size_t>(workspace->numel()) < bytes) {
      workspace = new_workspace(like, bytes, stream);
    }
    return {workspace->mutable_data_ptr(), static_cast<std::size_t>(workspace->numel())};
  }

  std::mutex mutex_;
  std::map<std::pair<int, cudaStream_t>, OfStream> streams_;
};

}  // namespace

gpu::Workspace workspace_for(const Tensor& like, std::size_t bytes, cudaStream_t stream) {
  // Never destroyed: at the end of the process torch's allocator may be gone before.
  static Workspaces& workspaces = *new Workspaces;
  return workspaces.get(like, bytes, stream);
}

}  // namespace rtlynx::ops
