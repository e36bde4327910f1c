// SPDX-License-Identifier: Apache-2.0
#include "benchmark/device.h"

#include "base/error.h"

namespace rtlynx::benchmark {

void check_cuda(cudaError_t status, std::string_view call) {
  if (status != cudaSuccess) fail(call, "success", cudaGetErrorString(status));
}

DeviceBuffer::DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMalloc(&data_, bytes), "cudaMalloc");
  const cudaError_t status = cudaMemset(data_, 0, bytes);
  if (status != cudaSuccess) cudaFree(data_);
  check_cuda(status, "cudaMemset");
}

DeviceBuffer::~DeviceBuffer() { cudaFree(data_); }

Stream::Stream() { check_cuda(cudaStreamCreate(&stream_), "cudaStreamCreate"); }

Stream::~Stream() { cudaStreamDestroy(stream_); }

void Stream::synchronize() const {
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
}

Event::Event() { check_cuda(cudaEventCreate(&event_), "cudaEventCreate"); }

Event::~Event() { cudaEventDestroy(event_); }

void Event::record(cudaStream_t stream) {
  check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord");
}

void Event::synchronize() const {
  check_cuda(cudaEventSynchronize(event_), "cudaEventSynchronize");
}

double Event::microseconds_since(const Event& earlier) const {
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), "cudaEventElapsedTime");
  return 1e3 * static_cast<double>(milliseconds);
}

}  // namespace rtlynx::benchmark
