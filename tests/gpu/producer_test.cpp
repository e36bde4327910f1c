// SPDX-License-Identifier: Apache-2.0
// The pack kernels beside the specification, where they compute the input.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "gpu/pack_case.h"
#include "rtlynx/rows.h"

namespace rtlynx {
namespace {

using testing::DeviceMatrix;
using testing::hard_rows;
using testing::HostInput;
using testing::kNarrowTypes;
using testing::kPackKernels;
using testing::Matrix;
using testing::normal_matrix;
using testing::PackCase;
using testing::random_input;

constexpr Producer kProducers[] = {Producer::none, Producer::gelu, Producer::swiglu,
                                   Producer::norm};
constexpr std::pair<std::int64_t, std::int64_t> kShapes[] = {{1, 16}, {65, 80}, {130, 3088}};

class ProducerGpuTest : public testing::NarrowTypeGpuTest {
 protected:
  static HostInput input_of(Producer producer, std::int64_t tokens, std::int64_t channels,
                            int rank = 0) {
    return random_input(GetParam(), producer, tokens, channels, rank);
  }
};

// Every instance of every kernel, and passes over the columns of H where one has not room for all.
TEST_P(ProducerGpuTest, EveryRankBesideEveryTransform) {
  for (const Producer producer : kProducers) {
    for (const int rank : {0, 16, 48, 64, 80, 128, 192, 256}) {
      HostInput input = input_of(producer, 70, 384, rank);
      PackCase(input).expect_specified_by_all();
      for (const int block : {16, 64, 128}) {
        add_transform(input, block);
        PackCase(input).expect_specified_by_all();
      }
    }
  }
}

TEST_P(ProducerGpuTest, ActivationsOfEveryShape) {
  for (const Producer producer : {Producer::gelu, Producer::swiglu}) {
    for (const auto& [tokens, channels] : kShapes) {
      for (const int rank : {0, 64}) {
        PackCase(input_of(producer, tokens, channels, rank), /*gap=*/16).expect_specified_by_all();
      }
    }
  }
}

TEST_P(ProducerGpuTest, ProducersOfHardRows) {
  for (const Producer producer : {Producer::gelu, Producer::swiglu, Producer::norm}) {
    HostInput input = input_of(producer, 130, 208);
    input.x = hard_rows(GetParam(), 130, 208, 0);
    // Where nothing overflows that another order of the factors would keep finite.
    for (std::size_t i = 1; i < input.moments.size(); i += 2) input.moments[i] *= 0.05f;
    PackCase(std::move(input)).expect_specified_by_all();
  }
}

TEST_P(ProducerGpuTest, WithoutTheNormOfTokens) {
  for (const Producer producer : kProducers) {
    HostInput input = input_of(producer, 130, 208, 64);
    input.restores_norm = false;
    PackCase(std::move(input)).expect_specified_by_all();
  }
}

// Gate and up are often the halves of one matrix.
TEST_P(ProducerGpuTest, SwigluOfTheHalvesOfAMatrix) {
  const std::int64_t tokens = 65, channels = 208;
  const HostInput input = input_of(Producer::swiglu, tokens, channels);
  Matrix halves = testing::zeros(GetParam(), tokens, 2 * channels);
  for (std::int64_t m = 0; m < tokens; ++m) {
    const auto from = static_cast<std::ptrdiff_t>(input.x.index(m, 0));
    const auto to = static_cast<std::ptrdiff_t>(halves.index(m, 0));
    std::copy_n(input.x.elements.begin() + from, channels, halves.elements.begin() + to);
    std::copy_n(input.up.elements.begin() + from, channels,
                halves.elements.begin() + to + channels);
  }
  const DeviceMatrix matrix(halves);
  PackCase pack(input);
  Pack24 problem = pack.problem();
  problem.x = matrix.view();
  problem.x.columns = channels;
  problem.up = problem.x;
  problem.up.data = static_cast<const std::uint16_t*>(problem.x.data) + channels;
  for (const auto& [kernel, name] : kPackKernels) {
    SCOPED_TRACE(name);
    pack.run(kernel, problem);
    pack.expect_specified();
  }
}

// Images that share blocks of tokens, that end with them, that are one, and one that is all.
TEST_P(ProducerGpuTest, NormsOfTheirParts) {
  for (const auto& [tokens, channels] : kShapes) {
    for (const int rank : {0, 64}) {
      for (const std::int64_t image_tokens : {0, 50, 64, 1000}) {
        const std::int64_t images =
            image_tokens == 0 ? 1 : (tokens + image_tokens - 1) / image_tokens;
        for (int parts = 0; parts < 8; ++parts) {
          SCOPED_TRACE(std::to_string(image_tokens) + " tokens an image, parts " +
                       std::to_string(parts));
          HostInput input = input_of(Producer::norm, tokens, channels, rank);
          input.image_tokens = image_tokens;
          if (!(parts & 1)) input.weight.clear();
          input.modulation_scale =
              normal_matrix(GetParam(), parts & 2 ? images : 0, channels, 2, 0.3f);
          input.modulation_shift = normal_matrix(GetParam(), parts & 4 ? images : 0, channels, 3);
          PackCase(std::move(input), /*gap=*/16).expect_specified_by_all();
        }
      }
    }
  }
}

TEST_P(ProducerGpuTest, NormsOfTokensFarFromZero) {
  HostInput input = input_of(Producer::norm, 65, 3072);
  for (std::uint16_t& element : input.x.elements) {
    element = testing::narrow(GetParam(), testing::widen(GetParam(), element) + 200.0f);
  }
  moments({.x = input.x.view(), .moments = input.moments.data()});
  PackCase(std::move(input)).expect_specified_by_all();
}

// Images end within blocks of tokens, and runs within blocks too.
TEST_P(ProducerGpuTest, NormsOfManyTokens) {
  for (const auto& [tokens, channels] :
       {std::pair<std::int64_t, std::int64_t>{4200, 768}, {130, 12288}}) {
    HostInput input = input_of(Producer::norm, tokens, channels, 64);
    input.image_tokens = tokens / 2 - 5;
    input.modulation_scale = normal_matrix(GetParam(), 3, channels, 4, 0.3f);
    input.modulation_shift = normal_matrix(GetParam(), 3, channels, 5);
    PackCase(std::move(input)).expect_specified_by_all();
  }
}

TEST_P(ProducerGpuTest, TransformsOfEveryShape) {
  for (const auto& [block, channels] :
       {std::pair<int, std::int64_t>{16, 48}, {16, 208}, {64, 320}, {128, 128}, {128, 3072}}) {
    for (const int rank : {0, 64, 128}) {
      HostInput input = input_of(Producer::none, 70, channels, rank);
      add_transform(input, block);
      PackCase(std::move(input), /*gap=*/16).expect_specified_by_all();
    }
  }
}

TEST_P(ProducerGpuTest, TransformsOfManyTokens) {
  for (const Producer producer : kProducers) {
    for (const int block : {16, 64, 128}) {
      HostInput input = input_of(producer, 500, 1152, 64);
      add_transform(input, block);
      PackCase(std::move(input)).expect_specified_by_all();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ProducerGpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
