// SPDX-License-Identifier: Apache-2.0
//
// The entry point that libFuzzer calls; RTLYNX_FUZZ_TARGET is one of the functions in targets.h.
#include <cstddef>
#include <cstdint>

#include "targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  rtlynx::fuzz::RTLYNX_FUZZ_TARGET({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
