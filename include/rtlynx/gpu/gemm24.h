// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "rtlynx/dtype.h"
#include "rtlynx/gpu/device.h"

/// The 2:4-sparse GEMM with low-rank residual: Sparse Tensor Cores by wgmma.sp (sm_90a) or mma.sp
/// (sm_80 and later).
namespace rtlynx::gpu {

/// Which operand of Y = X W^T is 2:4-sparse. The instructions take a sparse A only; a sparse weight
/// will be A with the output transposed. Only `activation` is implemented.
enum class SparseOperand : std::uint8_t { activation, weight };

enum class Activation : std::uint8_t { none, gelu };  // gelu: the tanh formula

/// How a product runs: what `select_gemm24` returns and `gemm24` takes.
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
  std::int64_t outputs = 0;   // N
  std::int64_t channels = 0;  // K
  int rank = 0;
  DType dtype = DType::bf16;
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

inline constexpr int kMaxSegments = 4;

/// Y = residual + gate * act(s * (X~ W^T + low up^T) + bias). All pointers are device memory,
/// 16-byte aligned. Rounding as in rtlynx/linear24.h; activation, gate and residual follow in fp32
/// before the one rounding to the type of Y.
struct Gemm24 {
  Gemm24Shape shape;  // N a multiple of 8, K of 16, rank of 16 up to 128; dtype f16 or bf16
  SparseOperand sparse = SparseOperand::activation;

  const void* operand = nullptr;  // packed X~, rtlynx/operand24.h
  const void* weight = nullptr;   // [N, K], contiguous
  const void* low = nullptr;      // [M, segments * rank], contiguous: H / s
  const void* up = nullptr;       // [N, rank], contiguous

  /// Stacked weights (q, k, v): rows [end of the previous, segment_ends[i]) of W use columns
  /// [i * rank, (i + 1) * rank) of `low`. Ends are multiples of the tile of outputs (128 on the
  /// sm80 path) but for the last, which is N; the rank is a multiple of 32. One segment, whose end
  /// is not read: one pair for the whole of W.
  int segments = 1;
  std::array<std::int64_t, kMaxSegments> segment_ends{};

  const float* scale = nullptr;  // [M]; null: ones
  const float* bias = nullptr;   // [N]; null: zeros
  Activation activation = Activation::none;
  const void* gate = nullptr;      // [ceil(M / image_tokens), N]; null: ones
  std::int64_t image_tokens = 0;   // tokens that share a row of gate; 0: all
  const void* residual = nullptr;  // [M, N] contiguous; may be y itself; null: zeros
  void* y = nullptr;               // out: [M, N] contiguous

  void* workspace = nullptr;  // gemm24_workspace_bytes, one per stream in flight
  std::size_t workspace_bytes = 0;
  bool follows_pack = false;  // the launch before it on the stream is the pack of its operand:
                              // start early, reading W meanwhile (programmatic dependent launch)
};

/// Bytes of workspace this problem needs; 0 without stream-K. It must be zero before its first use
/// and is left so by every call.
std::size_t gemm24_workspace_bytes(const Gemm24Config& config, const DeviceTraits& device);

/// Asynchronous on `stream` of the current device; allocates nothing; capturable in a graph; the
/// same bits every time. Throws Error for arguments that break the rules above, for path `dense`,
/// which the caller runs, and for a launch that CUDA refuses.
void gemm24(const Gemm24& problem, const Gemm24Config& config, cudaStream_t stream);

}  // namespace rtlynx::gpu
