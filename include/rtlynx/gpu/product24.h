// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "rtlynx/dtype.h"
#include "rtlynx/gpu/device.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/limits.h"
#include "rtlynx/product24.h"

/// The 2:4-sparse GEMM with low-rank residual: Sparse Tensor Cores by wgmma.sp (sm_90a) or mma.sp
/// (sm_80 and later).
namespace rtlynx::gpu {

/// How a product runs: what `select_gemm24` returns and `product24` takes.
struct Gemm24Config {
  enum class Path : std::uint8_t { dense, sm80, sm90 };
  Path path = Path::dense;
  int tile_tokens = 0;    // sm90: 128
  int tile_outputs = 0;   // sm90: 256
  int cluster = 2;        // sm90: 1, or 2: neighbours share a TPC, where their requests for the
                          // same tile of W coincide on the way to L2; nothing is multicast
  int group_tiles = 8;    // sm90: tiles of tokens that walk along N together
  bool stream_k = false;  // sm90: tiles of the last, ragged wave are cut along K, if at least two
                          // CTAs are there for each

  friend bool operator==(const Gemm24Config&, const Gemm24Config&) = default;
};

struct Gemm24Shape {
  std::int64_t tokens = 0;    // M
  std::int64_t outputs = 0;   // N, of all weights together
  std::int64_t channels = 0;  // K
  int rank = 0;
  DType dtype = DType::bf16;
  OperandWidth width = OperandWidth::k16;  // k8: e4m3 values and weights
};

/// A choice and why: one line for people.
struct Gemm24Choice {
  Gemm24Config config;
  std::string reason;
};

/// The configuration measured fastest for shapes like this one, or path `dense` where a dense GEMM
/// is faster than pack and sparse product together, or the sparse kernels cannot run; pure host
/// code. Throws Error only for a shape that is none: sizes below 1.
Gemm24Choice select_gemm24(const Gemm24Shape& shape, const DeviceTraits& device);

/// Bytes of workspace this configuration needs; 0 without stream-K.
std::size_t product24_workspace_bytes(const Gemm24Config& config, const DeviceTraits& device);

/// The products of a packed input, in one pass over it: one to kMaxProducts weights at their own
/// addresses, all with a low rank of the same r columns or all without. What rtlynx/product24.h
/// specifies, on device memory of the current device: f16 or bf16; N divisible by 8, K and
/// low_column by 16, r by 16 up to kMaxRank; every pointer 16-byte aligned and every row stride
/// divisible by 8, of an e4m3 weight by 16. e4m3 and `largest` are
/// for path sm90 alone.
///
/// Asynchronous on `stream`; allocates nothing; capturable in a graph; the same bits every time,
/// and for each token the same whatever the other tokens are as long as `config` and the number of
/// tokens are the same. Throws Error for arguments that break these rules, for path `dense`, which
/// the caller runs, and for a launch that CUDA refuses.
void product24(const PackedInput& packed, std::span<const Product24> products,
               const Gemm24Config& config, const Workspace& workspace, cudaStream_t stream);

}  // namespace rtlynx::gpu
