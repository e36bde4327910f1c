// SPDX-License-Identifier: Apache-2.0
// The mma.sp kernel of sm_80 and later, run on the CPU through its own index maps.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/device/packed_tile.h"
#include "kernels/gemm/sm80/layout.h"
#include "kernels/test_matrix.h"
#include "rtlynx/compress24.h"
#include "rtlynx/operand24.h"

namespace rtlynx {
namespace {

using namespace sm80;

std::vector<std::byte> operand_of(const CompressedMatrix<BFloat16>& compressed) {
  const std::int64_t channels = 2 * compressed.values.columns;
  std::vector<std::byte> operand(
      static_cast<std::size_t>(operand24_bytes(compressed.values.rows, channels)));
  to_operand24(compressed.values.view(), compressed.metadata.data(), operand.data());
  return operand;
}

/// Memory that answers for its bounds. Fresh, it holds NaN of every 16- and 32-bit type.
struct Memory {
  explicit Memory(int size) : bytes(static_cast<std::size_t>(size), std::byte{0xff}) {}

  template <typename T>
  T read(int offset) const {
    check(offset, sizeof(T));
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
  }
  template <typename T>
  void write(int offset, T value) {
    check(offset, sizeof(T));
    std::memcpy(bytes.data() + offset, &value, sizeof(T));
  }
  void check(int offset, std::size_t size) const {
    ASSERT_LE(static_cast<std::size_t>(offset) + size, bytes.size());
  }

  std::vector<std::byte> bytes;
};

// Host models of the instructions, written from the wording of the PTX ISA.

/// [lane][element], two elements a register.
struct Fragment {
  float element[32][8];
};

/// `row` gives the address that a lane passes.
template <typename Row>
Fragment ldmatrix(const Memory& stage, int matrices, Row row) {
  Fragment result{};
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 2 * matrices; ++i) {
      const int address = row(8 * (i / 2) + lane / 4) + 2 * (2 * (lane % 4) + i % 2);
      result.element[lane][i] = to_float(stage.read<BFloat16>(address));
    }
  }
  return result;
}

/// B [depth, 8], of which a lane has depth / 4 elements.
struct MatrixB {
  float value[32][8];
};
MatrixB gather_b(const Fragment& b, int depth) {
  MatrixB result{};
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < depth / 4; ++i) {
      result.value[2 * (lane % 4) + i % 2 + 8 * (i / 2)][lane / 4] = b.element[lane][i];
    }
  }
  return result;
}

/// D, [lane][register], += A [16, depth] B [depth, 8].
void multiply_add(const float (&a)[16][32], const MatrixB& b, int depth, float (&d)[32][4]) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2);
      const int column = 2 * (lane % 4) + i % 2;
      for (int k = 0; k < depth; ++k) d[lane][i] += a[row][k] * b.value[k][column];
    }
  }
}

/// The nibble of K 4 * group .. + 3 of `row`: the first lane of the selected pair of each quad has
/// K 0 .. 15, the second K 16 .. 31, rows 0 .. 7 low and rows 8 .. 15 high.
unsigned metadata_nibble(const std::uint32_t (&words)[32], int selector, int row, int group) {
  const int lane = 4 * (row % 8) + 2 * selector + group / 4;
  return words[lane] >> (16 * (row / 8) + 4 * (group % 4)) & 0xfu;
}

void mma_sp_m16n8k32(float (&d)[32][4], const Fragment& a, const Fragment& b,
                     const std::uint32_t (&words)[32], int selector) {
  float expanded[16][32] = {};
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; ++i) {
      const int row = lane / 4 + 8 * (i / 2 % 2);
      const int first = 4 * (lane % 4) + 16 * (i / 4);
      const unsigned nibble = metadata_nibble(words, selector, row, first / 4);
      EXPECT_LT(nibble & 3u, nibble >> 2);  // ordered metadata
      expanded[row][first + static_cast<int>(nibble >> (2 * (i % 2)) & 3u)] = a.element[lane][i];
    }
  }
  multiply_add(expanded, gather_b(b, 32), 32, d);
}

void mma_m16n8k16(float (&d)[32][4], const Fragment& a, const Fragment& b) {
  float dense[16][32] = {};
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; ++i) {
      dense[lane / 4 + 8 * (i / 2 % 2)][2 * (lane % 4) + i % 2 + 8 * (i / 4)] = a.element[lane][i];
    }
  }
  multiply_add(dense, gather_b(b, 16), 16, d);
}

// The kernel.

struct Problem {
  int tokens;
  std::vector<int> outputs;  // of each product
  int channels;
  int rank = 0;
};

/// One of the weights, with columns of low of its own.
struct Product {
  TestMatrix<BFloat16> weight;
  TestMatrix<BFloat16> up;
  int first_tile;
  int low_column;
};

struct Arguments {
  explicit Arguments(const Problem& shape)
      : problem(shape),
        x(integer_matrix<BFloat16>(shape.tokens, shape.channels, 31, 9)),
        low(integer_matrix<BFloat16>(
            shape.tokens, static_cast<std::int64_t>(shape.outputs.size()) * shape.rank, 33, 9)),
        operand(operand_of(CompressedMatrix<BFloat16>(x))) {
    for (const int outputs : shape.outputs) {
      const auto index = static_cast<unsigned>(products.size());
      products.push_back(
          {.weight = integer_matrix<BFloat16>(outputs, shape.channels, 40 + index, 9),
           .up = integer_matrix<BFloat16>(outputs, shape.rank, 50 + index, 9),
           .first_tile = output_tiles,
           .low_column = static_cast<int>(index) * shape.rank});
      output_tiles += (outputs + kTileOutputs - 1) / kTileOutputs;
    }
  }

  /// The last product that begins at or before this tile of outputs.
  const Product& product_of(int output_tile) const {
    std::size_t index = 0;
    while (index + 1 < products.size() && output_tile >= products[index + 1].first_tile) ++index;
    return products[index];
  }

  Problem problem;
  TestMatrix<BFloat16> x;
  TestMatrix<BFloat16> low;
  std::vector<std::byte> operand;
  std::vector<Product> products;
  int output_tiles = 0;
};

/// cp.async of 16 bytes with its zero fill.
void copy_chunk(Memory& stage, int offset, const TestMatrix<BFloat16>& source, int row, int column,
                int first_column, int columns) {
  for (int i = 0; i < kChunkElements; ++i) {
    const bool inside = row < source.rows && column < columns;
    stage.write(offset + 2 * i,
                inside ? source.at(row, first_column + column + i) : from_float<BFloat16>(0.0f));
  }
}

Memory load_sparse_step(const Arguments& arguments, const Product& product, int token, int output,
                        int step) {
  Memory stage(kStageBytes);
  const int tiles_down = (arguments.problem.tokens + kPackedTileTokens - 1) / kPackedTileTokens;
  const int first = (step * tiles_down + token / kPackedTileTokens) * kPackedTileBytes;
  const bool has_second = token + kPackedTileTokens < arguments.problem.tokens;
  const int second = has_second ? first + kPackedTileBytes : first;
  for (int thread = 0; thread < kThreads; ++thread) {
    for (int i = 0; i < kOperandCopies; ++i) {
      const int offset = operand_copy(thread, i) * kChunkBytes;
      if (offset >= kOperandBytes) continue;
      const int source =
          offset < kPackedTileBytes ? first + offset : second + offset - kPackedTileBytes;
      for (int byte = 0; byte < kChunkBytes; ++byte) {
        stage.write(offset + byte, arguments.operand.at(static_cast<std::size_t>(source + byte)));
      }
    }
    for (int i = 0; i < kWeightCopies; ++i) {
      const ChunkPlace at = weight_copy(thread, i);
      copy_chunk(stage, kOperandBytes + weight_chunk_offset(at.row, at.chunk), product.weight,
                 output + at.row, step * kTileChannels + at.chunk * kChunkElements, 0,
                 arguments.problem.channels);
    }
  }
  return stage;
}

Memory load_low_rank_step(const Arguments& arguments, const Product& product, int token, int output,
                          int step) {
  Memory stage(kStageBytes);
  const int rank = arguments.problem.rank;
  for (int thread = 0; thread < kThreads; ++thread) {
    for (int i = 0; i < kLowRankCopies; ++i) {
      const ChunkPlace at = low_rank_copy(thread, i);
      const int column = step * kRankStep + at.chunk * kChunkElements;
      const int target = narrow_chunk_offset(at.row, at.chunk);
      copy_chunk(stage, target, arguments.low, token + at.row, column, product.low_column, rank);
      copy_chunk(stage, kOperandBytes + target, product.up, output + at.row, column, 0, rank);
    }
  }
  return stage;
}

struct Accumulators {
  float value[kTokenFragments][kOutputFragments][32][4];
};

void multiply_sparse(const Memory& stage, int warp, Accumulators& sums) {
  for (int half = 0; half < 2; ++half) {
    for (int m = 0; m < kTokenFragments; ++m) {
      const auto a = ldmatrix(stage, 4, [&](int lane) { return value_row(warp, m, half, lane); });
      std::uint32_t words[32];
      for (int lane = 0; lane < 32; ++lane) {
        words[lane] = stage.read<std::uint32_t>(metadata_word(warp, m, lane));
      }
      for (int n = 0; n < kOutputFragments; ++n) {
        const auto b =
            ldmatrix(stage, 4, [&](int lane) { return weight_row(warp, n, half, lane); });
        mma_sp_m16n8k32(sums.value[m][n], a, b, words, half);
      }
    }
  }
}

void multiply_low_rank(const Memory& stage, int warp, Accumulators& sums) {
  for (int half = 0; half < kRankStep / 16; ++half) {
    for (int m = 0; m < kTokenFragments; ++m) {
      const auto a = ldmatrix(stage, 4, [&](int lane) { return low_row(warp, m, half, lane); });
      for (int n = 0; n < kOutputFragments; ++n) {
        const auto b = ldmatrix(stage, 2, [&](int lane) { return up_row(warp, n, half, lane); });
        mma_m16n8k16(sums.value[m][n], a, b);
      }
    }
  }
}

/// The warp's sums through its staging area to their rows.
void finish(const Accumulators& sums, int token, int output, TestMatrix<float>& y) {
  Memory staging(kStagingBytes);
  for (int lane = 0; lane < 32; ++lane) {
    for (int m = 0; m < kTokenFragments; ++m) {
      for (int n = 0; n < kOutputFragments; ++n) {
        for (int i = 0; i < 4; ++i) {
          const Place at = accumulator_pair(m, n, i / 2, lane);
          staging.write(staging_offset(at.row, at.column) + i % 2 * 4, sums.value[m][n][lane][i]);
        }
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int pass = 0; pass < kPasses; ++pass) {
      const Place at = finished_by(pass, lane);
      for (int i = 0; i < 8; ++i) {
        const int row = token + at.row;
        const int column = output + at.column + i;
        if (row >= y.rows || column >= y.columns) continue;
        const int chunk = staging_offset(at.row, at.column + i / 4 * 4);
        y.at(row, column) = staging.read<float>(chunk + i % 4 * 4);
      }
    }
  }
}

/// The block of one tile; Y is that of its product.
void run_block(const Arguments& arguments, const Product& product, const Tile& tile,
               TestMatrix<float>& y) {
  const int token = tile.tokens * kTileTokens;
  const int output = (tile.outputs - product.first_tile) * kTileOutputs;
  std::vector<Accumulators> sums(kWarps);
  for (int step = 0; step * kTileChannels < arguments.problem.channels; ++step) {
    const Memory stage = load_sparse_step(arguments, product, token, output, step);
    for (int warp = 0; warp < kWarps; ++warp) {
      multiply_sparse(stage, warp, sums[static_cast<std::size_t>(warp)]);
    }
  }
  for (int step = 0; step * kRankStep < arguments.problem.rank; ++step) {
    const Memory stage = load_low_rank_step(arguments, product, token, output, step);
    for (int warp = 0; warp < kWarps; ++warp) {
      multiply_low_rank(stage, warp, sums[static_cast<std::size_t>(warp)]);
    }
  }
  for (int warp = 0; warp < kWarps; ++warp) {
    finish(sums[static_cast<std::size_t>(warp)], token + first_token(warp),
           output + first_output(warp), y);
  }
}

std::vector<TestMatrix<float>> run_kernel(const Arguments& arguments) {
  const Problem& problem = arguments.problem;
  std::vector<TestMatrix<float>> results;
  for (const int outputs : problem.outputs) results.emplace_back(problem.tokens, outputs);
  const int token_tiles = (problem.tokens + kTileTokens - 1) / kTileTokens;
  for (int block = 0; block < token_tiles * arguments.output_tiles; ++block) {
    const Tile tile = tile_of(block, token_tiles, arguments.output_tiles);
    const Product& product = arguments.product_of(tile.outputs);
    const auto index = static_cast<std::size_t>(&product - arguments.products.data());
    run_block(arguments, product, tile, results[index]);
  }
  return results;
}

/// Small integers: every sum is exact.
void expect_products(const Problem& problem) {
  const Arguments arguments(problem);
  TestMatrix<BFloat16> kept(problem.tokens, problem.channels);
  const CompressedMatrix<BFloat16> compressed(arguments.x);
  expand24(compressed.values.view(), compressed.metadata.data(), kept.view());

  const std::vector<TestMatrix<float>> results = run_kernel(arguments);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Product& product = arguments.products[i];
    for (int m = 0; m < problem.tokens; ++m) {
      for (int n = 0; n < problem.outputs[i]; ++n) {
        float expected = 0.0f;
        for (int k = 0; k < problem.channels; ++k) {
          expected += kept.value(m, k) * product.weight.value(n, k);
        }
        for (int r = 0; r < problem.rank; ++r) {
          expected += arguments.low.value(m, product.low_column + r) * product.up.value(n, r);
        }
        ASSERT_EQ(results[i].at(m, n), expected)
            << "product " << i << ", row " << m << ", column " << n;
      }
    }
  }
}

TEST(PortableFragments, WholeTilesMultiplyRight) {
  expect_products({.tokens = 128, .outputs = {128}, .channels = 128, .rank = 32});
}

TEST(PortableFragments, RaggedTilesMultiplyRight) {
  expect_products({.tokens = 150, .outputs = {136}, .channels = 144, .rank = 48});
}

TEST(PortableFragments, ProductsHaveTilesAndColumnsOfLowOfTheirOwn) {
  expect_products({.tokens = 5, .outputs = {8, 200, 128}, .channels = 16, .rank = 16});
}

TEST(PortableFragments, PackedTileMapsAgreeWithTheOperand) {
  const CompressedMatrix<BFloat16> compressed(random_bits_matrix<BFloat16>(64, 64, 35));
  Memory tile(kPackedTileBytes);
  tile.bytes = operand_of(compressed);
  for (int token = 0; token < kPackedTileTokens; ++token) {
    for (int block = 0; block < 4; ++block) {
      for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(tile.read<std::uint16_t>(packed_chunk_offset(token, block) + 2 * i),
                  bits_of(compressed.values.at(token, 8 * block + i)));
      }
      EXPECT_EQ(tile.read<std::uint16_t>(packed_metadata_offset(token, block)),
                compressed.metadata[static_cast<std::size_t>(4 * token + block)]);
    }
  }
}

}  // namespace
}  // namespace rtlynx
