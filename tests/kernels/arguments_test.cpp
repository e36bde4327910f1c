// SPDX-License-Identifier: Apache-2.0
// What the specifications refuse, and that a refused call writes nothing.
#include "kernels/spec/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "kernels/test_product.h"

namespace rtlynx {
namespace {

using ::testing::ThrowsMessage;

template <typename T>
bool untouched(const TestMatrix<T>& matrix) {
  return std::all_of(matrix.data.begin(), matrix.data.end(), [](T element) {
    return bits_of(element) == bits_of(TestMatrix<T>::canary());
  });
}

/// A call with every part, to break one rule of. Nothing is written by one that is refused.
class Pack24Errors : public ::testing::Test {
 protected:
  Pack24Errors() {
    owner_.down = normal_matrix<float>(2, 64, 21);
    owner_.transform = normal_vector<float>(64 * 16, 22);
    owner_.transform_block = 16;
    input_ = owner_.arguments();
    packed_ = results_.arguments();
  }

  void expect_refused(const std::string& required_and_got) {
    EXPECT_THAT([&] { pack24(input_, packed_); },
                ThrowsMessage<Error>("pack24: " + required_and_got));
    expect_same(results_, TestPacked<float>(3, 64, 2));
    input_ = owner_.arguments();
    packed_ = results_.arguments();
  }

  TestInput<float> owner_ = random_input<float>(Producer::norm, 3, 64);
  TestPacked<float> results_{3, 64, 2};
  Pack24 input_;
  Packed24 packed_;
};

TEST_F(Pack24Errors, NoneInAValidCall) { EXPECT_NO_THROW(pack24(input_, packed_)); }

TEST_F(Pack24Errors, OfX) {
  input_.x.row_stride = 63;
  expect_refused("required row_stride of X >= 64, got 63");
  input_.x.columns = 56;
  expect_refused("required channels divisible by 16, got 56");
}

TEST_F(Pack24Errors, OfTheTail) {
  const TestMatrix<float> tail(3, 64), long_tail(4, 64);
  input_.producer = Producer::none;
  input_.tail = tail.view();
  expect_refused("required channels of X before a tail, a multiple of 128, got 64");
  input_.producer = Producer::none;
  input_.tail = long_tail.view();
  expect_refused("required tail [3, 64] f32, got tail [4, 64] f32");
  const TestMatrix<float> x(3, 128);
  input_.x = x.view();
  input_.tail = tail.view();
  expect_refused("required no producer beside a tail, got one");
}

TEST_F(Pack24Errors, OfTheProducer) {
  input_.producer = static_cast<Producer>(9);
  expect_refused("required a known producer, got 9");
  input_.producer = Producer::swiglu;
  expect_refused("required up [3, 64] f32, got up [0, 0] f32");
  input_.moments = nullptr;
  expect_refused("required data for moments, got a null pointer with 6 elements");
  input_.image_tokens = -1;
  expect_refused("required image_tokens of 0 or more, got -1");
  input_.image_tokens = 2;
  expect_refused("required modulation_scale [2, 64] f32, got modulation_scale [1, 64] f32");
  input_.modulation_shift.dtype = DType::f16;
  expect_refused("required modulation_shift [1, 64] f32, got modulation_shift [1, 64] f16");
}

TEST_F(Pack24Errors, OfTheTransform) {
  input_.transform_block = 32;
  expect_refused("required a transform block of 16, 64 or 128, got 32");
  input_.transform_block = 128;
  expect_refused("required channels divisible by the transform's block, got 64 and 128");
}

TEST_F(Pack24Errors, OfDown) {
  input_.down.columns = 48;
  expect_refused("required down [2, 64] f32, got down [2, 48] f32");
  input_.down.dtype = DType::bf16;
  expect_refused("required down [2, 64] f32, got down [2, 64] bf16");
}

TEST_F(Pack24Errors, OfTheResults) {
  packed_.values.columns = 16;
  expect_refused("required values [3, 32] f32, got values [3, 16] f32");
  packed_.metadata = nullptr;
  expect_refused("required data for metadata, got a null pointer with 12 elements");
  packed_.scale = nullptr;
  expect_refused("required data for scale, got a null pointer with 3 elements");
  packed_.low.columns = 1;
  expect_refused("required low [3, 2] f32, got low [3, 1] f32");
}

TEST_F(Pack24Errors, OfProduce24) {
  TestMatrix<float> z(3, 32);
  EXPECT_THAT([&] { produce24(input_, z.view()); },
              ThrowsMessage<Error>("produce24: required z [3, 64] f32, got z [3, 32] f32"));
  input_.moments = nullptr;
  EXPECT_THAT([&] { produce24(input_, z.view()); },
              ThrowsMessage<Error>("produce24: required data for moments, "
                                   "got a null pointer with 6 elements"));
}

class Product24Errors : public ::testing::Test {
 protected:
  Product24Errors() {
    owner_.gate = normal_matrix<float>(1, 5, 23);
    owner_.residual = normal_matrix<float>(3, 5, 24);
    restore();
  }

  void restore() {
    packed_ = input_.arguments();
    product_ = owner_.arguments(y_);
  }

  /// Behind a product that is right, and is not begun.
  void expect_refused(const std::string& required_and_got) {
    TestMatrix<float> y(3, 5);
    const Product24 products[] = {owner_.arguments(y), product_};
    EXPECT_THAT([&] { product24(packed_, products); },
                ThrowsMessage<Error>("product24: " + required_and_got));
    EXPECT_TRUE(untouched(y) && untouched(y_));
    restore();
  }

  TestPacked<float> input_{TestInput<float>{.x = normal_matrix<float>(3, 32, 25),
                                            .down = normal_matrix<float>(4, 32, 26)}};
  TestProduct<float> owner_ = random_product<float>(5, 32, 2);
  TestMatrix<float> y_{3, 5};
  Packed24 packed_;
  Product24 product_;
};

TEST_F(Product24Errors, NoneInAValidCall) {
  EXPECT_NO_THROW(product24(packed_, {&product_, 1}));
  EXPECT_NO_THROW(product24(packed_, {}));
}

TEST_F(Product24Errors, OfTheWeight) {
  product_.weight.columns = 16;
  expect_refused("required weight [5, 32] f32, got weight [5, 16] f32");
  product_.weight.dtype = DType::f16;
  expect_refused("required weight [5, 32] f32, got weight [5, 32] f16");
}

TEST_F(Product24Errors, OfTheLowRank) {
  product_.up.rows = 4;
  expect_refused("required up [5, 2] f32, got up [4, 2] f32");
  product_.low_column = 3;
  expect_refused("required columns of low inside its 4, got 2 from column 3");
  product_.low_column = -1;
  expect_refused("required columns of low inside its 4, got 2 from column -1");
  packed_.low.rows = 2;
  product_.low_column = 2;
  expect_refused("required low [3, 4] f32, got low [2, 4] f32");
  packed_.low.dtype = DType::bf16;
  expect_refused("required low [3, 4] f32, got low [3, 4] bf16");
  packed_.low = {};
  expect_refused("required low [3, 0] f32, got low [0, 0] f32");
}

TEST_F(Product24Errors, OfTheEpilogue) {
  product_.bias_dtype = DType::f16;
  expect_refused("required a bias of f32 or f32, got f16");
  product_.activation = static_cast<Activation>(7);
  expect_refused("required a known activation, got 7");
  product_.image_tokens = -2;
  expect_refused("required image_tokens of 0 or more, got -2");
  product_.image_tokens = 1;
  expect_refused("required gate [3, 5] f32, got gate [1, 5] f32");
  product_.residual.columns = 4;
  expect_refused("required residual [3, 5] f32, got residual [3, 4] f32");
  product_.y.rows = 2;
  expect_refused("required Y [3, 5] f32, got Y [2, 5] f32");
  product_.y.data = nullptr;
  expect_refused("required data for Y, got a null pointer with 15 elements");
}

TEST_F(Product24Errors, OfThePackedInput) {
  packed_.scale = nullptr;
  expect_refused("required data for scale, got a null pointer with 3 elements");
  packed_.metadata = nullptr;
  expect_refused("required data for metadata, got a null pointer with 6 elements");
  packed_.values.columns = 12;
  expect_refused("required channels divisible by 16, got 24");
  input_.metadata[3] = 0x4440;
  expect_refused("required nibbles 4, 8, C, 9, D or E, got 0 at row 1, group 4");
}

class RowsErrors : public ::testing::Test {
 protected:
  template <typename Problem>
  static auto call(void (*run)(const Problem&), const Problem& problem) {
    return [run, problem] { run(problem); };
  }

  void expect_refused(const Moments& problem, const std::string& required_and_got) const {
    EXPECT_THAT(call(moments, problem), ThrowsMessage<Error>("moments: " + required_and_got));
  }
  void expect_refused(const ResidualNorm& problem, const std::string& required_and_got) const {
    EXPECT_THAT(call(residual_norm, problem),
                ThrowsMessage<Error>("residual_norm: " + required_and_got));
    EXPECT_TRUE(untouched(result_));
  }
  void expect_refused(const HeadNorm& problem, const std::string& required_and_got) const {
    EXPECT_THAT(call(head_norm, problem), ThrowsMessage<Error>("head_norm: " + required_and_got));
    EXPECT_TRUE(untouched(result_));
  }
  void expect_refused(const Swiglu& problem, const std::string& required_and_got) const {
    EXPECT_THAT(call(swiglu, problem), ThrowsMessage<Error>("swiglu: " + required_and_got));
    EXPECT_TRUE(untouched(result_));
  }

  HeadNorm heads() {
    const HeadStream stream{.tokens = 4, .q = x_.view(), .k = x_.view(), .v = x_.view()};
    return {.streams = {stream, {}},
            .heads = 2,
            .head_dim = 8,
            .q = result_.view(),
            .k = result_.view(),
            .v = result_.view()};
  }

  const TestMatrix<float> x_ = normal_matrix<float>(4, 16, 27);
  const TestMatrix<float> narrow_ = normal_matrix<float>(4, 8, 28);
  TestMatrix<float> result_{4, 16};
  std::vector<float> moments_ = std::vector<float>(8);
};

TEST_F(RowsErrors, OfMoments) {
  const Moments good{.x = x_.view(), .moments = moments_.data()};
  EXPECT_NO_THROW(moments(good));
  Moments bad = good;
  bad.norm = static_cast<Norm>(5);
  expect_refused(bad, "required a known norm, got 5");
  bad = good;
  bad.moments = nullptr;
  expect_refused(bad, "required data for moments, got a null pointer with 8 elements");
  bad = good;
  bad.x.rows = -1;
  expect_refused(bad, "required X without negative sizes, got X [-1, 16] f32");
}

TEST_F(RowsErrors, OfResidualNorm) {
  const ResidualNorm good{.x = x_.view(), .h = result_.view()};
  ResidualNorm bad = good;
  bad.norm = static_cast<Norm>(5);
  expect_refused(bad, "required a known norm, got 5");
  bad = good;
  bad.image_tokens = -1;
  expect_refused(bad, "required image_tokens of 0 or more, got -1");
  bad = good;
  bad.y = narrow_.view();
  expect_refused(bad, "required Y [4, 16] f32, got Y [4, 8] f32");
  bad = good;
  bad.image_tokens = 3;
  bad.gate = x_.view();
  expect_refused(bad, "required gate [2, 16] f32, got gate [4, 16] f32");
  bad.gate = {};
  bad.scale = x_.view();
  expect_refused(bad, "required scale [2, 16] f32, got scale [4, 16] f32");
  bad.scale = {};
  bad.shift = x_.view();
  expect_refused(bad, "required shift [2, 16] f32, got shift [4, 16] f32");
  bad = good;
  bad.h.dtype = DType::f16;
  expect_refused(bad, "required h [4, 16] f32, got h [4, 16] f16");
  bad = good;
  bad.normed = slice_rows(result_.view(), 0, 3);
  expect_refused(bad, "required normed [4, 16] f32, got normed [3, 16] f32");
}

TEST_F(RowsErrors, OfTheSizesOfHeads) {
  HeadNorm bad = heads();
  bad.heads = 0;
  expect_refused(bad,
                 "required at least one head of 8 to 256 channels, a multiple of 8, got 0 of 8");
  for (const int head_dim : {0, 12, 264}) {
    bad = heads();
    bad.head_dim = head_dim;
    expect_refused(bad,
                   "required at least one head of 8 to 256 channels, a multiple of 8, got 2 of " +
                       std::to_string(head_dim));
  }
  for (const int count : {0, 3}) {
    bad = heads();
    bad.stream_count = count;
    expect_refused(bad, "required one stream or two, got " + std::to_string(count));
  }
  bad = heads();
  bad.images = bad.streams[0].tokens = -2;
  expect_refused(bad, "required images of 0 or more, got -2");
  bad.images = 1;
  expect_refused(bad, "required tokens of 0 or more, got -2");
}

TEST_F(RowsErrors, OfTheMatricesOfHeads) {
  EXPECT_NO_THROW(head_norm(heads()));
  result_ = TestMatrix<float>(4, 16);
  HeadNorm bad = heads();
  bad.images = 2;
  expect_refused(bad, "required q of a stream [8, 16] f32, got q of a stream [4, 16] f32");
  bad = heads();
  bad.streams[0].k = narrow_.view();
  expect_refused(bad, "required k of a stream [4, 16] f32, got k of a stream [4, 8] f32");
  bad = heads();
  bad.streams[0].v = {};
  expect_refused(bad, "required v of a stream [4, 16] f32, got v of a stream [0, 0] f32");
  bad = heads();
  bad.stream_count = 2;
  bad.streams[1] = bad.streams[0];
  expect_refused(bad, "required q [8, 16] f32, got q [4, 16] f32");
  bad = heads();
  bad.k.columns = 8;
  expect_refused(bad, "required k [4, 16] f32, got k [4, 8] f32");
  bad = heads();
  bad.v.rows = 3;
  expect_refused(bad, "required v [4, 16] f32, got v [3, 16] f32");
}

TEST_F(RowsErrors, OfSwiglu) {
  const Swiglu good{.gate = x_.view(), .up = x_.view(), .y = result_.view()};
  Swiglu bad = good;
  bad.up.columns = 8;
  expect_refused(bad, "required up [4, 16] f32, got up [4, 8] f32");
  bad = good;
  bad.y.rows = 3;
  expect_refused(bad, "required y [4, 16] f32, got y [3, 16] f32");
  bad = good;
  bad.gate.data = nullptr;
  expect_refused(bad, "required data for gate, got a null pointer with 64 elements");
  EXPECT_NO_THROW(swiglu(good));
}

}  // namespace
}  // namespace rtlynx
