// SPDX-License-Identifier: Apache-2.0
#include "study/lpips.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/json.h"
#include "models/tensor_bytes.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;

// tools/make_lpips_goldens.py draws the same numbers.
double fraction(std::uint64_t stream, std::uint64_t index) {
  std::uint64_t z = ((stream << 32) + index) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return static_cast<double>((z ^ (z >> 31)) >> 40) * 0x1p-24;
}

torch::Tensor drawn(std::uint64_t stream, const std::vector<std::int64_t>& shape, double low,
                    double high) {
  torch::Tensor tensor = torch::empty(shape);
  auto* values = tensor.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    values[i] =
        static_cast<float>(low + (high - low) * fraction(stream, static_cast<std::uint64_t>(i)));
  }
  return tensor;
}

Image picture(std::uint64_t stream, int width, int height) {
  Image image(width, height);
  for (std::size_t i = 0; i < image.rgb.size(); ++i) {
    image.rgb[i] = static_cast<std::uint8_t>(256 * fraction(stream, i));
  }
  return image;
}

struct Shapes {
  std::vector<std::int64_t> channels;  // 3, then of every convolution
  std::vector<std::int64_t> sides;
  std::vector<std::int64_t> heads;
};

const std::map<std::string, Shapes>& networks() {
  static const std::map<std::string, Shapes> shapes = {
      {"alex",
       {.channels = {3, 64, 192, 384, 256, 256},
        .sides = {11, 5, 3, 3, 3},
        .heads = {64, 192, 384, 256, 256}}},
      {"vgg",
       {.channels = {3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512},
        .sides = std::vector<std::int64_t>(13, 3),
        .heads = {64, 128, 256, 512, 512}}}};
  return shapes;
}

Tensors draw_weights(const Shapes& shapes) {
  Tensors tensors;
  std::uint64_t stream = 0;
  for (std::size_t i = 0; i < shapes.sides.size(); ++i) {
    const std::int64_t in = shapes.channels[i], out = shapes.channels[i + 1];
    const std::int64_t side = shapes.sides[i];
    const double bound = std::sqrt(6.0 / static_cast<double>(in * side * side));
    const std::string name = "conv." + std::to_string(i);
    tensors.emplace_back(name + ".weight", drawn(stream, {out, in, side, side}, -bound, bound));
    tensors.emplace_back(name + ".bias", drawn(stream + 1, {out}, -0.1, 0.1));
    stream += 2;
  }
  for (std::size_t i = 0; i < shapes.heads.size(); ++i, ++stream) {
    tensors.emplace_back("linear." + std::to_string(i), drawn(stream, {shapes.heads[i]}, 0, 1));
  }
  return tensors;
}

class LpipsTest : public testing::Test {
 protected:
  Lpips read(const Tensors& tensors, const std::string& network = "alex",
             const std::string& format = "rtlynx lpips 1") {
    const TensorBytes bytes(tensors);
    write_safetensors(path_, bytes.entries(), {{"format", format}, {"network", network}});
    return Lpips::read(path_);
  }
  Lpips alex() { return read(draw_weights(networks().at("alex"))); }

  test::TempDir folder_;
  std::filesystem::path path_ = folder_ / "lpips.safetensors";
};

TEST_F(LpipsTest, AgreesWithThePackage) {
  const nlohmann::json golden =
      read_json_file(std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / "lpips.json");
  for (const auto& entry : golden["cases"]) {
    const std::string network = entry["network"];
    const Lpips lpips = read(draw_weights(networks().at(network)), network);
    EXPECT_EQ(lpips.network(), network);
    std::vector<Image> a, b;
    for (std::uint64_t i = 0; i < entry["distances"].size(); ++i) {
      a.push_back(picture(1000 + 2 * i, golden["width"], golden["height"]));
      b.push_back(picture(1001 + 2 * i, golden["width"], golden["height"]));
    }
    const std::vector<double> distances = lpips.distances(a, b);
    ASSERT_EQ(distances.size(), a.size());
    for (std::size_t i = 0; i < distances.size(); ++i) {
      const double wanted = entry["distances"][i];
      EXPECT_NEAR(distances[i], wanted, 1e-5 * wanted) << network;  // fp32, summed otherwise
    }
  }
}

TEST_F(LpipsTest, IsADistance) {
  const Lpips lpips = alex();
  std::vector<Image> a, b;
  for (std::uint64_t i = 0; i < 18; ++i) {  // more than are looked at together
    a.push_back(picture(i, 32, 32));
    b.push_back(a.back());
    // A disturbance that grows.
    for (std::size_t j = 0; j < b.back().rgb.size(); j += 2) {
      b.back().rgb[j] = static_cast<std::uint8_t>((b.back().rgb[j] * (20 - i)) / 20);
    }
  }
  const std::vector<double> there = lpips.distances(a, b);
  EXPECT_EQ(there, lpips.distances(b, a));
  EXPECT_EQ(there[0], 0);
  EXPECT_GT(there[1], 0);
  EXPECT_GT(there[17], there[1]);
  EXPECT_EQ(lpips.distances({}, {}).size(), 0U);
}

TEST_F(LpipsTest, RefusesPicturesThatCannotBe) {
  const Lpips lpips = alex();
  const std::vector<Image> fit = {Image(31, 31)}, small = {Image(31, 30)}, wide = {Image(32, 31)};
  EXPECT_EQ(lpips.distances(fit, fit).front(), 0);
  EXPECT_NE(refusal([&] { lpips.distances(small, small); }).find("at least 31x31, got 31x30"),
            std::string::npos);
  EXPECT_THROW(lpips.distances(fit, wide), Error);
  EXPECT_THROW(lpips.distances(fit, {}), Error);
}

TEST_F(LpipsTest, RefusesOtherFiles) {
  const Tensors weights = draw_weights(networks().at("alex"));
  const auto message = [&](const Tensors& tensors, const std::string& network = "alex",
                           const std::string& format = "rtlynx lpips 1") {
    return refusal([&] { read(tensors, network, format); });
  };
  EXPECT_NE(message(weights, "alex", "rtlynx lpips 2").find("rtlynx lpips 1"), std::string::npos);
  EXPECT_NE(message(weights, "squeeze").find("alex or vgg, got squeeze"), std::string::npos);
  EXPECT_NE(message(weights, "vgg").find("tensor conv.0.weight"), std::string::npos);
  Tensors changed = weights;
  changed.pop_back();
  EXPECT_NE(message(changed).find("linear.4"), std::string::npos);
  changed = weights;
  changed.emplace_back("more", torch::zeros({1}));
  EXPECT_NE(message(changed).find("15 tensors, got 16"), std::string::npos) << message(changed);
  changed = weights;
  changed[1].second = torch::zeros({64}, torch::kInt32);
  EXPECT_NE(message(changed).find("conv.0.bias: required numbers [64]"), std::string::npos)
      << message(changed);
}

}  // namespace
}  // namespace rtlynx
