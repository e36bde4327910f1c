// SPDX-License-Identifier: Apache-2.0
// The layouts of the wgmma.sp kernel of sm_90a, run on the CPU: what the descriptors address in
// swizzled shared memory, which lane's metadata counts, and the way of the accumulators to Y.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/gemm/sm90/tile.h"
#include "kernels/test_matrix.h"
#include "rtlynx/operand24.h"

namespace rtlynx {
namespace {

constexpr int kWarpgroup = 128;  // threads
constexpr int kSparseK = 32;     // of one instruction

// A stage: the packed tiles of a CTA's tokens, then W.
constexpr int kBlocks = gpu::kSm90TileTokens / kPackedTileTokens;
constexpr int kWeightOffset = (kBlocks * kPackedTileBytes + 1023) / 1024 * 1024;

// Models of the hardware, written from the wording of the PTX ISA.

/// Shared memory is swizzled by its addresses: bits 4-5 (64 bytes) or 4-6 (128 bytes) are those of
/// the chunk, and take bits 7 and up of the row.
enum class Swizzle { b64, b128 };
int swizzled(Swizzle swizzle, int address) {
  const int mask = swizzle == Swizzle::b64 ? 3 : 7;
  return address ^ (address >> 7 & mask) << 4;
}

/// Shared memory that answers for its bounds; fresh, it holds NaN.
class Shared {
 public:
  explicit Shared(int size) : bytes_(static_cast<std::size_t>(size), std::byte{0xff}) {}

  template <typename T>
  T read(int address) const {
    T value{};
    EXPECT_LE(address + sizeof(T), bytes_.size());
    std::memcpy(&value, bytes_.data() + address, sizeof(T));
    return value;
  }
  template <typename T>
  void write(int address, T value) {
    ASSERT_LE(address + sizeof(T), bytes_.size());
    std::memcpy(bytes_.data() + address, &value, sizeof(T));
  }
  void copy(int address, const void* source, int size) {
    ASSERT_LE(static_cast<std::size_t>(address + size), bytes_.size());
    std::memcpy(bytes_.data() + address, source, static_cast<std::size_t>(size));
  }

 private:
  std::vector<std::byte> bytes_;
};

/// A matrix descriptor of a K-major operand. Eight rows lie end to end, and so do the eights.
struct Descriptor {
  Swizzle swizzle;
  int start;

  int row_bytes() const { return swizzle == Swizzle::b64 ? 64 : 128; }
  float element(const Shared& shared, int row, int column) const {
    const int address = start + row * row_bytes() + 2 * column;
    return to_float(shared.read<BFloat16>(swizzled(swizzle, address)));
  }
};

/// [thread][register]
using Accumulators = std::vector<std::vector<float>>;

/// Row and column of D [64, N] that register `i` of a thread holds.
struct Place {
  int row;
  int column;
};
Place accumulator(int thread, int i) {
  return {thread / 32 * 16 + thread % 32 / 4 + 8 * (i / 2 % 2),
          8 * (i / 4) + 2 * (thread % 4) + i % 2};
}

void add_product(const std::vector<float>& a, const Descriptor& b, const Shared& shared, int depth,
                 Accumulators& d) {
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    auto& registers = d[static_cast<std::size_t>(thread)];
    for (std::size_t i = 0; i < registers.size(); ++i) {
      const Place at = accumulator(thread, static_cast<int>(i));
      for (int k = 0; k < depth; ++k) {
        registers[i] +=
            a[static_cast<std::size_t>(at.row * depth + k)] * b.element(shared, at.column, k);
      }
    }
  }
}

/// The nibble of K 4 * group .. + 3 of a row of the instruction. Warp w has rows 16 w .. 16 w + 15;
/// of each quad the selected pair of lanes supplies it, the first K 0 .. 15, the second K 16 .. 31,
/// the low half of a word for rows 0 .. 7, the high one for rows 8 .. 15.
unsigned metadata_nibble(const std::vector<std::uint32_t>& words, int selector, int row,
                         int group) {
  const int lane = 4 * (row % 8) + 2 * selector + group / 4;
  const std::uint32_t word = words[static_cast<std::size_t>(row / 16 * 32 + lane)];
  return word >> (16 * (row / 8 % 2) + 4 * (group % 4)) & 0xfu;
}

/// wgmma.mma_async.sp m64nNk32: A [64, 16] compressed. `words` [thread].
void wgmma_sp(const Descriptor& a, const Descriptor& b, const Shared& shared,
              const std::vector<std::uint32_t>& words, int selector, Accumulators& d) {
  std::vector<float> expanded(64 * kSparseK);
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < kSparseK / 2; ++column) {
      const unsigned nibble = metadata_nibble(words, selector, row, column / 2);
      EXPECT_LT(nibble & 3u, nibble >> 2);
      const int k = column / 2 * 4 + static_cast<int>(nibble >> (2 * (column % 2)) & 3u);
      expanded[static_cast<std::size_t>(row * kSparseK + k)] = a.element(shared, row, column);
    }
  }
  add_product(expanded, b, shared, kSparseK, d);
}

/// wgmma.mma_async m64nNk16.
void wgmma(const Descriptor& a, const Descriptor& b, const Shared& shared, Accumulators& d) {
  std::vector<float> dense(64 * 16);
  for (int row = 0; row < 64; ++row) {
    for (int k = 0; k < 16; ++k) {
      dense[static_cast<std::size_t>(row * 16 + k)] = a.element(shared, row, k);
    }
  }
  add_product(dense, b, shared, 16, d);
}

/// A box of a matrix as TMA writes it to shared memory: rows of 64 or 128 bytes, swizzled.
void load_box(const TestMatrix<BFloat16>& matrix, Swizzle swizzle, int target, Shared& shared) {
  const int row_bytes = swizzle == Swizzle::b64 ? 64 : 128;
  for (int row = 0; row < matrix.rows; ++row) {
    for (int column = 0; column < matrix.columns; ++column) {
      shared.write(swizzled(swizzle, target + row * row_bytes + 2 * column),
                   matrix.at(row, column));
    }
  }
}

Accumulators zeros(int outputs) {
  return Accumulators(kWarpgroup, std::vector<float>(static_cast<std::size_t>(outputs / 2)));
}

void expect_product(const TestMatrix<BFloat16>& a, const TestMatrix<BFloat16>& b,
                    const Accumulators& d) {
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    const auto& registers = d[static_cast<std::size_t>(thread)];
    for (std::size_t i = 0; i < registers.size(); ++i) {
      const Place at = accumulator(thread, static_cast<int>(i));
      float expected = 0.0f;
      for (int k = 0; k < a.columns; ++k) expected += a.value(at.row, k) * b.value(at.column, k);
      ASSERT_EQ(registers[i], expected) << "row " << at.row << ", column " << at.column;
    }
  }
}

// What the kernel does with them.

/// A packed tile of 64 x 64 copied as it is to `block` of a stage, then W [N, 64] behind the
/// stage's tiles; two instructions, the second 32 bytes on in A and 64 in B.
void expect_sparse_step(int outputs, int block) {
  SCOPED_TRACE("N " + std::to_string(outputs) + ", block " + std::to_string(block));
  const auto x = integer_matrix<BFloat16>(64, 64, 41, 9);
  const auto weight = integer_matrix<BFloat16>(outputs, 64, 42, 9);
  const CompressedMatrix<BFloat16> compressed(x);
  std::vector<std::byte> operand(kPackedTileBytes);
  to_operand24(compressed.values.view(), compressed.metadata.data(), operand.data());

  const int tile = block * kPackedTileBytes;
  Shared shared(kWeightOffset + outputs * 128);
  shared.copy(tile, operand.data(), kPackedTileBytes);
  load_box(weight, Swizzle::b128, kWeightOffset, shared);

  std::vector<std::uint32_t> words;
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    words.push_back(shared.read<std::uint32_t>(tile + kPackedTileValueBytes + 4 * thread));
  }
  Accumulators d = zeros(outputs);
  for (int half = 0; half < 2; ++half) {
    wgmma_sp({Swizzle::b64, tile + 32 * half}, {Swizzle::b128, kWeightOffset + 64 * half}, shared,
             words, half, d);
  }
  TestMatrix<BFloat16> kept(64, 64);
  expand24(compressed.values.view(), compressed.metadata.data(), kept.view());
  expect_product(kept, weight, d);
}

TEST(Sm90Fragments, PackedTilesMultiplyRight) {
  for (int block = 0; block < kBlocks; ++block) expect_sparse_step(gpu::kSm90TileOutputs, block);
}

/// 32 columns of low [64, 32] and up [N, 32] in the place of tile and weights.
TEST(Sm90Fragments, StepsOfTheLowRankMultiplyRight) {
  const int outputs = gpu::kSm90TileOutputs;
  for (int block = 0; block < kBlocks; ++block) {
    const auto low = integer_matrix<BFloat16>(64, 32, 43, 9);
    const auto up = integer_matrix<BFloat16>(outputs, 32, 44, 9);
    const int tile = block * kPackedTileBytes;
    Shared shared(kWeightOffset + outputs * 64);
    load_box(low, Swizzle::b64, tile, shared);
    load_box(up, Swizzle::b64, kWeightOffset, shared);
    Accumulators d = zeros(outputs);
    for (int half = 0; half < 2; ++half) {
      wgmma({Swizzle::b64, tile + 32 * half}, {Swizzle::b64, kWeightOffset + 32 * half}, shared, d);
    }
    expect_product(low, up, d);
  }
}

/// The packed order is what TMA's 64-byte swizzle would have made of plain rows, wherever in a
/// stage the tile lies: tiles begin on eight rows.
TEST(Sm90Fragments, PackedValuesAreSwizzledRows) {
  for (int block = 0; block < kBlocks; ++block) {
    const int tile = block * kPackedTileBytes;
    EXPECT_EQ(tile % 512, 0);
    for (int token = 0; token < 64; ++token) {
      for (int column = 0; column < 32; ++column) {
        EXPECT_EQ(tile + packed_value_offset(token, column),
                  swizzled(Swizzle::b64, tile + 64 * token + 2 * column));
      }
    }
  }
}

/// stmatrix.x4 of 16-bit elements: lane l passes the address of row l % 8 of matrix l / 8; register
/// i of a lane holds elements 2 (l % 4) and the next of row l / 4 of matrix i.
template <typename Address, typename Element>
void stmatrix_x4(Shared& shared, Address address, Element element) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      const int row = address(8 * matrix + lane / 4);
      EXPECT_EQ(row % 16, 0);
      for (int i = 0; i < 2; ++i) {
        shared.write(row + 2 * (2 * (lane % 4) + i), element(lane, matrix, i));
      }
    }
  }
}

/// How each warp writes its 16 tokens of Y, 64 outputs at a time: four registers of accumulators
/// become two columns of matrices, and TMA stores a box of 16 x 64 with its 128-byte swizzle.
TEST(Sm90Fragments, AccumulatorsReachTheirPlaceInY) {
  constexpr int kOutputs = gpu::kSm90TileOutputs, kBoxOutputs = 64;
  TestMatrix<float> y(64, kOutputs);
  const auto name = [](Place at) { return static_cast<float>(at.row * kOutputs + at.column); };
  for (int warp = 0; warp < 4; ++warp) {
    for (int box = 0; box < kOutputs / kBoxOutputs; ++box) {
      // Elements are stored by number, which 16 bits of an integer hold.
      Shared staging(16 * 128);
      for (int pair = 0; pair < kBoxOutputs / 16; ++pair) {
        const auto address = [&](int lane) {
          const int row = lane % 8 + 8 * (lane / 8 % 2);
          return row * 128 + ((2 * pair + lane / 16) ^ row % 8) * 16;
        };
        stmatrix_x4(staging, address, [&](int lane, int matrix, int i) {
          const int j = box * (kBoxOutputs / 8) + 2 * pair + matrix / 2;
          const int index = 4 * j + 2 * (matrix % 2) + i;
          return static_cast<std::uint16_t>(name(accumulator(32 * warp + lane, index)));
        });
      }
      for (int row = 0; row < 16; ++row) {
        for (int column = 0; column < kBoxOutputs; ++column) {
          y.at(16 * warp + row, kBoxOutputs * box + column) =
              staging.read<std::uint16_t>(swizzled(Swizzle::b128, row * 128 + 2 * column));
        }
      }
    }
  }
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < kOutputs; ++column) {
      ASSERT_EQ(y.at(row, column), name({row, column})) << "row " << row << ", column " << column;
    }
  }
}

}  // namespace
}  // namespace rtlynx
