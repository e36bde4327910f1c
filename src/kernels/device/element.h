// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rtlynx {

// The element types of the kernels, to name their instances on the host; element.cuh defines them.
struct F32;
struct F16;
struct Bf16;
struct E4m3;

}  // namespace rtlynx
