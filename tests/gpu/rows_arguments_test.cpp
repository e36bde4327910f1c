// SPDX-License-Identifier: Apache-2.0
// Every rule of the row kernels, broken once. All are checked before a device is looked for.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "gpu/gpu_test.h"
#include "gpu/rule.h"
#include "rtlynx/gpu/rows.h"

namespace rtlynx {
namespace {

using testing::address;
using testing::expect_all_refused;
using testing::floats;
using testing::Rule;
using testing::somewhere;
using testing::unaligned;

constexpr std::int64_t kTooMany = std::int64_t{1} << 31;

struct MomentsCall {
  Moments problem{.x = somewhere(10, 64), .moments = floats(address())};
  void operator()() const { gpu::moments(problem, nullptr); }
};

const std::vector<Rule<MomentsCall>> kMomentsRules = {
    {"fp32", [](MomentsCall& c) { c.problem.x.dtype = DType::f32; }, "bf16 or f16, got f32"},
    {"no such norm", [](MomentsCall& c) { c.problem.norm = static_cast<Norm>(9); },
     "a known norm, got 9"},
    {"moments null", [](MomentsCall& c) { c.problem.moments = nullptr; }, "data for moments"},
    {"moments unaligned", [](MomentsCall& c) { c.problem.moments = floats(unaligned()); },
     "moments in device memory"},
    {"X null", [](MomentsCall& c) { c.problem.x.data = nullptr; }, "data for X"},
    {"X unaligned", [](MomentsCall& c) { c.problem.x.data = unaligned(); }, "X in device memory"},
    {"columns not a multiple of 8", [](MomentsCall& c) { c.problem.x.columns = 60; },
     "columns divisible by 8, at most 32768, got 60"},
    {"no columns", [](MomentsCall& c) { c.problem.x.columns = 0; }, "got 0"},
    {"too many columns", [](MomentsCall& c) { c.problem.x = somewhere(10, 32776); },
     "at most 32768, got 32776"},
    {"too many tokens", [](MomentsCall& c) { c.problem.x.rows = kTooMany; }, "2^30 tokens"},
    {"row stride", [](MomentsCall& c) { c.problem.x.row_stride = 68; },
     "a row stride of X divisible by 8, got 68"},
};

struct ResidualCall {
  ResidualNorm problem{.x = somewhere(10, 64),
                       .y = somewhere(10, 64),
                       .gate = somewhere(1, 64),
                       .h = somewhere(10, 64),
                       .scale = somewhere(1, 64),
                       .shift = somewhere(1, 64),
                       .normed = somewhere(10, 64)};
  void operator()() const { gpu::residual_norm(problem, nullptr); }
};

const std::vector<Rule<ResidualCall>> kResidualRules = {
    {"no such norm", [](ResidualCall& c) { c.problem.norm = static_cast<Norm>(9); },
     "a known norm"},
    {"negative image_tokens", [](ResidualCall& c) { c.problem.image_tokens = -1; }, "image_tokens"},
    {"y of other rows", [](ResidualCall& c) { c.problem.y.rows = 9; }, "Y [10, 64]"},
    {"y unaligned", [](ResidualCall& c) { c.problem.y.data = unaligned(); }, "Y in device memory"},
    {"y with a row stride", [](ResidualCall& c) { c.problem.y.row_stride = 68; }, "stride of Y"},
    {"gate of other images", [](ResidualCall& c) { c.problem.image_tokens = 5; }, "gate [2, 64]"},
    {"gate unaligned", [](ResidualCall& c) { c.problem.gate.data = unaligned(); }, "gate"},
    {"gate with a row stride", [](ResidualCall& c) { c.problem.gate.row_stride = 68; },
     "a row stride of gate"},
    {"scale of other columns", [](ResidualCall& c) { c.problem.scale.columns = 56; },
     "scale [1, 64]"},
    {"scale unaligned", [](ResidualCall& c) { c.problem.scale.data = unaligned(); }, "scale"},
    {"scale with a row stride", [](ResidualCall& c) { c.problem.scale.row_stride = 68; },
     "a row stride of scale"},
    {"shift of another type", [](ResidualCall& c) { c.problem.shift.dtype = DType::f16; },
     "shift [1, 64] bf16"},
    {"shift unaligned", [](ResidualCall& c) { c.problem.shift.data = unaligned(); }, "shift"},
    {"shift with a row stride", [](ResidualCall& c) { c.problem.shift.row_stride = 68; },
     "a row stride of shift"},
    {"h of other rows", [](ResidualCall& c) { c.problem.h.rows = 9; }, "h [10, 64]"},
    {"h unaligned", [](ResidualCall& c) { c.problem.h.data = unaligned(); }, "h in device memory"},
    {"h with a row stride", [](ResidualCall& c) { c.problem.h.row_stride = 68; }, "stride of h"},
    {"normed null", [](ResidualCall& c) { c.problem.normed.data = nullptr; }, "data for normed"},
    {"normed unaligned", [](ResidualCall& c) { c.problem.normed.data = unaligned(); }, "normed"},
    {"normed with a row stride", [](ResidualCall& c) { c.problem.normed.row_stride = 68; },
     "a row stride of normed"},
    {"moments unaligned", [](ResidualCall& c) { c.problem.moments = floats(unaligned()); },
     "moments"},
    {"weight unaligned", [](ResidualCall& c) { c.problem.weight = unaligned(); }, "weight"},
    {"post weight unaligned", [](ResidualCall& c) { c.problem.post_weight = unaligned(); },
     "post_weight"},
};

HeadStream stream_of(std::int64_t rows) {
  return {.tokens = rows / 2,
          .q = somewhere(rows, 48),
          .k = somewhere(rows, 48),
          .v = somewhere(rows, 48)};
}

struct HeadCall {
  HeadNorm problem{.streams = {stream_of(10), stream_of(6)},
                   .stream_count = 2,
                   .images = 2,
                   .heads = 3,
                   .head_dim = 16,
                   .q = somewhere(16, 48),
                   .k = somewhere(16, 48),
                   .v = somewhere(16, 48)};
  void operator()() const { gpu::head_norm(problem, nullptr); }
};

void use_images(HeadCall& c, std::int64_t images) {
  c.problem.images = images;
  c.problem.stream_count = 1;
  c.problem.streams[0] = {.tokens = 1,
                          .q = somewhere(images, 48),
                          .k = somewhere(images, 48),
                          .v = somewhere(images, 48)};
  c.problem.q = c.problem.k = c.problem.v = somewhere(images, 48);
}

const std::vector<Rule<HeadCall>> kHeadRules = {
    {"no heads", [](HeadCall& c) { c.problem.heads = 0; }, "at least one head"},
    {"head_dim not a multiple of 8", [](HeadCall& c) { c.problem.head_dim = 12; }, "got 3 of 12"},
    {"head_dim above 256", [](HeadCall& c) { c.problem.head_dim = 264; }, "got 3 of 264"},
    {"no streams", [](HeadCall& c) { c.problem.stream_count = 0; }, "one stream or two, got 0"},
    {"too many streams", [](HeadCall& c) { c.problem.stream_count = 3; }, "one stream or two"},
    {"too many images", [](HeadCall& c) { use_images(c, 65536); }, "65535 images"},
    {"negative images", [](HeadCall& c) { c.problem.images = -2; }, "images of 0 or more"},
    {"fp32",
     [](HeadCall& c) {
       HeadNorm& p = c.problem;
       for (HeadStream& s : p.streams) s.q.dtype = s.k.dtype = s.v.dtype = DType::f32;
       p.q.dtype = p.k.dtype = p.v.dtype = DType::f32;
     },
     "bf16 or f16, got f32"},
    {"q of other rows", [](HeadCall& c) { c.problem.streams[1].q.rows = 5; },
     "q of a stream [6, 48]"},
    {"k of a stream unaligned", [](HeadCall& c) { c.problem.streams[1].k.data = unaligned(); },
     "k of a stream in device memory"},
    {"q of a stream with a row stride", [](HeadCall& c) { c.problem.streams[0].q.row_stride = 52; },
     "a row stride of q of a stream"},
    {"no v of a stream", [](HeadCall& c) { c.problem.streams[0].v = {}; }, "v of a stream"},
    {"v of a stream unaligned", [](HeadCall& c) { c.problem.streams[0].v.data = unaligned(); },
     "v of a stream in device memory"},
    {"q weight unaligned", [](HeadCall& c) { c.problem.streams[1].q_weight = unaligned(); },
     "q_weight"},
    {"k weight unaligned", [](HeadCall& c) { c.problem.streams[0].k_weight = unaligned(); },
     "k_weight"},
    {"q of too few rows", [](HeadCall& c) { c.problem.q.rows = 15; }, "q [16, 48]"},
    {"q unaligned", [](HeadCall& c) { c.problem.q.data = unaligned(); }, "q in device memory"},
    {"k with a row stride", [](HeadCall& c) { c.problem.k.row_stride = 52; }, "row stride of k"},
    {"v null", [](HeadCall& c) { c.problem.v.data = nullptr; }, "data for v"},
    {"rotation unaligned", [](HeadCall& c) { c.problem.rotation = floats(unaligned()); },
     "rotation"},
};

struct SwigluCall {
  Swiglu problem{.gate = somewhere(10, 64), .up = somewhere(10, 64), .y = somewhere(10, 64)};
  void operator()() const { gpu::swiglu(problem, nullptr); }
};

const std::vector<Rule<SwigluCall>> kSwigluRules = {
    {"fp32",
     [](SwigluCall& c) {
       c.problem.gate.dtype = c.problem.up.dtype = c.problem.y.dtype = DType::f32;
     },
     "bf16 or f16, got f32"},
    {"columns not a multiple of 8",
     [](SwigluCall& c) {
       c.problem.gate.columns = c.problem.up.columns = c.problem.y.columns = 60;
     },
     "columns divisible by 8, at most 32768, got 60"},
    {"too many tokens",
     [](SwigluCall& c) { c.problem.gate.rows = c.problem.up.rows = c.problem.y.rows = kTooMany; },
     "2^30 tokens"},
    {"gate unaligned", [](SwigluCall& c) { c.problem.gate.data = unaligned(); },
     "gate in device memory"},
    {"up of other columns", [](SwigluCall& c) { c.problem.up.columns = 56; }, "up [10, 64]"},
    {"up with a row stride", [](SwigluCall& c) { c.problem.up.row_stride = 68; }, "stride of up"},
    {"y unaligned", [](SwigluCall& c) { c.problem.y.data = unaligned(); }, "y in device memory"},
    {"y null", [](SwigluCall& c) { c.problem.y.data = nullptr; }, "data for y"},
};

struct QuantizeCall {
  Quantize problem{.x = somewhere(10, 64),
                   .codes = contiguous(address(), DType::e4m3, 10, 64),
                   .unit = floats(address())};
  void operator()() const { gpu::quantize(problem, nullptr); }
};

const std::vector<Rule<QuantizeCall>> kQuantizeRules = {
    {"fp32", [](QuantizeCall& c) { c.problem.x.dtype = DType::f32; }, "bf16 or f16, got f32"},
    {"columns not a multiple of 16",
     [](QuantizeCall& c) { c.problem.x.columns = c.problem.codes.columns = 56; },
     "columns divisible by 16, got 56"},
    {"too many tokens", [](QuantizeCall& c) { c.problem.x.rows = c.problem.codes.rows = kTooMany; },
     "2^30 tokens"},
    {"x unaligned", [](QuantizeCall& c) { c.problem.x.data = unaligned(); }, "x in device memory"},
    {"codes of other columns", [](QuantizeCall& c) { c.problem.codes.columns = 48; },
     "codes [10, 64] e4m3"},
    {"codes of another type", [](QuantizeCall& c) { c.problem.codes.dtype = DType::bf16; },
     "codes [10, 64] e4m3"},
    {"codes with a row stride", [](QuantizeCall& c) { c.problem.codes.row_stride = 68; },
     "stride of codes"},
    {"unit null", [](QuantizeCall& c) { c.problem.unit = nullptr; }, "unit"},
};

TEST(GpuArguments, QuantizeRefusesEveryBrokenRule) {
  expect_all_refused(kQuantizeRules, "gpu::quantize");
}

TEST(GpuArguments, MomentsRefuseEveryBrokenRule) {
  expect_all_refused(kMomentsRules, "gpu::moments");
}

TEST(GpuArguments, ResidualNormRefusesEveryBrokenRule) {
  expect_all_refused(kResidualRules, "gpu::residual_norm");
}

TEST(GpuArguments, HeadNormRefusesEveryBrokenRule) {
  expect_all_refused(kHeadRules, "gpu::head_norm");
}

TEST(GpuArguments, SwigluRefusesEveryBrokenRule) {
  expect_all_refused(kSwigluRules, "gpu::swiglu");
}

TEST(GpuArguments, NoRowsAreNothingToDo) {
  ResidualCall residual;
  residual.problem = {.x = somewhere(0, 64)};
  EXPECT_NO_THROW(residual());
  MomentsCall moments;
  moments.problem = {.x = somewhere(0, 64)};
  EXPECT_NO_THROW(moments());
}

class RowsArgumentsGpuTest : public testing::GpuTest {};

TEST_F(RowsArgumentsGpuTest, NothingWasLaunchedByBrokenRules) {
  expect_all_refused(kMomentsRules, "gpu::moments");
  expect_all_refused(kResidualRules, "gpu::residual_norm");
  expect_all_refused(kHeadRules, "gpu::head_norm");
  expect_all_refused(kSwigluRules, "gpu::swiglu");
  expect_all_refused(kQuantizeRules, "gpu::quantize");
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

}  // namespace
}  // namespace rtlynx
