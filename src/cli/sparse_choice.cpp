// SPDX-License-Identifier: Apache-2.0
#include "cli/sparse_choice.h"

#include <fmt/format.h>

#include "io/terminal.h"

namespace rtlynx::cli {

SparseChoice choose_by_gain(const torch::TensorOptions& options, const StreamTokens& tokens) {
#if RTLYNX_GPU_KERNELS
  if (options.device().is_cuda() && options.dtype() == torch::kBFloat16) {
    return
        [tokens, device = gpu::current_device()](const LayerGroup& group, const SparseForm& form) {
          return gains(group, tokens.of(group.stream), form, device);
        };
  }
#else
  (void)options;
  (void)tokens;
#endif
  return {};
}

void say_what_stays_dense(const char* command, const SparseLayers& layers,
                          const StreamTokens& tokens) {
  if (layers.sparse == layers.wanted) return;
  terminal::say(fmt::format(
      "{}: {} of {} layers run sparse; with {} image and {} text tokens dense is faster for the "
      "others on this GPU, or was not measured; --force makes all of them sparse",
      command, layers.sparse, layers.wanted, tokens.image, tokens.text));
}

}  // namespace rtlynx::cli
