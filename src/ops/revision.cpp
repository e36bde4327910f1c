// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/stable/library.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/word_hash.h"
#include "ops/arguments.h"

namespace rtlynx::ops {
namespace {

/// One parameter of weights_revision (models/revision.h); `values` as that takes them: contiguous
/// bf16 on the host. The state is 0 before the first.
std::int64_t add_to_revision(std::int64_t state, std::string name, const Tensor& values) {
  if (!values.is_cpu() || values.scalar_type() != ScalarType::BFloat16 || !values.is_contiguous()) {
    fail("add_to_revision", "contiguous bf16 on the CPU", describe(values));
  }
  const std::vector<std::int64_t> sizes = values.sizes().vec();
  WordHash hash(std::bit_cast<std::uint64_t>(state));
  hash.add(std::as_bytes(std::span(name)));
  hash.add(std::as_bytes(std::span(sizes)));
  hash.add({static_cast<const std::byte*>(values.const_data_ptr()),
            static_cast<std::size_t>(values.numel()) * 2});
  return std::bit_cast<std::int64_t>(hash.state());
}

}  // namespace
}  // namespace rtlynx::ops

STABLE_TORCH_LIBRARY_IMPL(rtlynx, CPU, m) {
  m.impl("add_to_revision", TORCH_BOX(&rtlynx::ops::add_to_revision));
}
