// SPDX-License-Identifier: Apache-2.0
// A single block's Linears on the GPU as one CUDA graph: LayerNorm with modulation in the pack; q,
// k, v and the MLP's up projection with GELU as one product of four weights; the projection back
// from their concatenation, with gate and residual. Captured once, replayed many times.
#include <rtlynx/gpu/pack24.h>
#include <rtlynx/gpu/product24.h>
#include <rtlynx/gpu/rows.h>
#include <rtlynx/operand24.h>

#include <algorithm>
#include <cstdio>

#include "device_memory.h"

namespace {

namespace gpu = rtlynx::gpu;

constexpr std::int64_t kTokens = 2048, kChannels = 1024, kHidden = 4096;

/// A packed input without low rank, and the memory that it lies in.
struct Packed {
  Packed(std::int64_t tokens, std::int64_t channels)
      : operand(allocate_zeros(rtlynx::operand24_bytes(tokens, channels))),
        scale(allocate_zeros(tokens * sizeof(float))),
        view{.tokens = tokens,
             .channels = channels,
             .operand = operand.get(),
             .scale = static_cast<float*>(scale.get())} {}

  DeviceMemory operand, scale;
  gpu::PackedInput view;
};

class Block {
 public:
  /// Asynchronous; allocates nothing, so that it can be captured.
  void launch(cudaStream_t stream) const {
    const auto moments = static_cast<float*>(moments_.get());
    gpu::moments({.x = x_.view(), .moments = moments}, stream);
    gpu::pack24({.x = x_.view(),
                 .producer = rtlynx::Producer::norm,
                 .moments = moments,
                 .modulation_scale = scale_.view(),
                 .modulation_shift = shift_.view()},
                input_.view, workspace_, stream);
    rtlynx::MatrixView v = joint_.view(), hidden = joint_.view();
    v.columns = kChannels;
    hidden.data = static_cast<std::uint16_t*>(hidden.data) + kChannels;
    hidden.columns = kHidden;
    const rtlynx::Product24 readers[] = {
        {.weight = wq_.view(), .y = q_.view()},
        {.weight = wk_.view(), .y = k_.view()},
        {.weight = wv_.view(), .y = v},
        {.weight = up_.view(), .activation = rtlynx::Activation::gelu, .y = hidden}};
    gpu::product24(input_.view, readers, first_, workspace_, stream);
    gpu::pack24({.x = joint_.view()}, next_.view, workspace_, stream);
    const rtlynx::Product24 back{
        .weight = back_.view(), .gate = gate_.view(), .residual = x_.view(), .y = y_.view()};
    gpu::product24(next_.view, {&back, 1}, second_, workspace_, stream);
  }

  Elements result() const { return y_.read(); }

 private:
  /// The fastest sparse configuration; the portable one where dense would be faster.
  static gpu::Gemm24Config config_for(std::int64_t outputs, std::int64_t channels) {
    gpu::Gemm24Config config =
        gpu::select_gemm24({.tokens = kTokens, .outputs = outputs, .channels = channels},
                           gpu::current_device())
            .config;
    if (config.path == gpu::Gemm24Config::Path::dense) {
      config.path = gpu::Gemm24Config::Path::sm80;
    }
    return config;
  }

  std::size_t workspace_bytes() const {
    const gpu::DeviceTraits device = gpu::current_device();
    return std::max({gpu::pack24_workspace_bytes(/*low_columns=*/0, device),
                     gpu::product24_workspace_bytes(first_, device),
                     gpu::product24_workspace_bytes(second_, device)});
  }

  DeviceMatrix x_ = random_matrix(kTokens, kChannels, 1.0f);
  DeviceMatrix scale_ = random_matrix(1, kChannels, 0.1f);
  DeviceMatrix shift_ = random_matrix(1, kChannels, 0.1f);
  DeviceMatrix gate_ = random_matrix(1, kChannels, 0.5f);
  DeviceMatrix wq_ = random_matrix(kChannels, kChannels, 0.03f);
  DeviceMatrix wk_ = random_matrix(kChannels, kChannels, 0.03f);
  DeviceMatrix wv_ = random_matrix(kChannels, kChannels, 0.03f);
  DeviceMatrix up_ = random_matrix(kHidden, kChannels, 0.03f);
  DeviceMatrix back_ = random_matrix(kChannels, kChannels + kHidden, 0.015f);
  DeviceMatrix q_{kTokens, kChannels}, k_{kTokens, kChannels}, y_{kTokens, kChannels};
  DeviceMatrix joint_{kTokens, kChannels + kHidden};
  DeviceMemory moments_ = allocate_zeros(2 * kTokens * sizeof(float));
  Packed input_{kTokens, kChannels}, next_{kTokens, kChannels + kHidden};
  gpu::Gemm24Config first_ = config_for(3 * kChannels + kHidden, kChannels);
  gpu::Gemm24Config second_ = config_for(kChannels, kChannels + kHidden);
  DeviceMemory memory_ = allocate_zeros(workspace_bytes());
  gpu::Workspace workspace_{memory_.get(), workspace_bytes()};
};

void run() {
  const Block block;
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream));
  block.launch(stream);
  check(cudaStreamSynchronize(stream));
  const Elements expected = block.result();

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t instance = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  block.launch(stream);
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&instance, graph, 0));
  for (int i = 0; i < 10; ++i) check(cudaGraphLaunch(instance, stream));
  check(cudaStreamSynchronize(stream));
  std::printf("the graph gives %s\n", block.result() == expected ? "the same bits" : "other bits");
  cudaGraphExecDestroy(instance);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

}  // namespace

int main() {
  if (!has_gpu()) {
    std::fprintf(stderr, "no CUDA device\n");
    return 1;
  }
  try {
    run();
  } catch (const rtlynx::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
