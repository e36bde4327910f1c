// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Marks the index maps of the kernels, which the CPU's tests run too.
#ifdef __CUDACC__
#define RTLYNX_HOST_DEVICE __host__ __device__
#else
#define RTLYNX_HOST_DEVICE
#endif
