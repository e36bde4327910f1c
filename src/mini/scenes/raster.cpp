// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/raster.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>

#include "mini/scenes/font.h"

namespace rtlynx {
namespace {

// Lengths are integers in 1/64 of a pixel of the 64-pixel scene. Floating point would round
// differently from one compiler to the next; integers draw the same picture everywhere.
constexpr int kUnit = 64;
constexpr int kScene = kSceneSide * kUnit;
constexpr int kGrid = 4;  // samples per pixel and axis

constexpr int units(double pixels) { return static_cast<int>(pixels * kUnit); }

struct Point {
  int x;
  int y;
};

struct Form {
  int circle_radius;
  int square_half;
  int triangle_half_width;
  int triangle_height;
  int ring_outer;
  int ring_inner;
  int cross_arm;
  int cross_half_stroke;
  int texture_period_part;  // side of one stripe or one checker cell
};

constexpr Form kSmall = {.circle_radius = units(5.25),
                         .square_half = units(4.75),
                         .triangle_half_width = units(5.75),
                         .triangle_height = units(10.5),
                         .ring_outer = units(5.5),
                         .ring_inner = units(3.875),
                         .cross_arm = units(5.5),
                         .cross_half_stroke = units(0.875),
                         .texture_period_part = units(2.5)};
constexpr Form kLarge = {.circle_radius = units(11),
                         .square_half = units(10),
                         .triangle_half_width = units(12),
                         .triangle_height = units(21),
                         .ring_outer = units(11.5),
                         .ring_inner = units(9.625),
                         .cross_arm = units(11.5),
                         .cross_half_stroke = units(1),
                         .texture_period_part = units(3)};

// Centres of a group's members about the item's centre.
constexpr Point kGroup1[] = {{0, 0}};
constexpr Point kGroup2[] = {{-units(6.75), 0}, {units(6.75), 0}};
constexpr Point kGroup3[] = {
    {0, -units(6.5)}, {-units(6.75), units(6.5)}, {units(6.75), units(6.5)}};

std::span<const Point> group(int count) {
  if (count == 1) return kGroup1;
  if (count == 2) return kGroup2;
  return kGroup3;
}

bool inside(Shape shape, const Form& form, int x, int y) {
  switch (shape) {
    case Shape::circle:
      return x * x + y * y <= form.circle_radius * form.circle_radius;
    case Shape::square:
      return std::max(std::abs(x), std::abs(y)) <= form.square_half;
    case Shape::triangle: {
      const int below_apex = y + form.triangle_height / 2;
      return below_apex <= form.triangle_height &&
             std::abs(x) * form.triangle_height <= form.triangle_half_width * below_apex;
    }
    case Shape::ring: {
      const int square = x * x + y * y;
      return square <= form.ring_outer * form.ring_outer &&
             square >= form.ring_inner * form.ring_inner;
    }
    case Shape::cross:
      return std::min(std::abs(x), std::abs(y)) <= form.cross_half_stroke &&
             std::max(std::abs(x), std::abs(y)) <= form.cross_arm;
  }
  return false;
}

// Stripes and cells are centred on the shape, so that each shape of a kind looks the same.
bool is_second_tone(Texture texture, const Form& form, int x, int y) {
  if (texture == Texture::plain) return false;
  const int part = form.texture_period_part;
  const int centring = part / 2 + 64 * part;  // keeps the dividend positive
  const int row = (y + centring) / part;
  if (texture == Texture::striped) return row % 2 != 0;
  return (row + (x + centring) / part) % 2 != 0;
}

/// The pixels of a square picture whose samples fall into a box, and where those samples lie.
class SampleGrid {
 public:
  explicit SampleGrid(int side) : side_(side) {}

  int half() const { return side_ / 2; }
  int first_pixel(int unit) const { return std::clamp(unit * side_ / kScene - 1, 0, half()); }
  int end_pixel(int unit) const { return std::clamp(unit * side_ / kScene + 2, 0, half()); }
  int position(int sample) const { return (2 * sample + 1) * (kScene / (2 * kGrid)) / side_; }

 private:
  int side_;
};

/// Counts the samples of the box that `tone` (0 none, 1 first, 2 second) assigns to each tone.
/// The box and the arguments of `tone` are relative to `centre`.
template <typename Tone>
void count_samples(const SampleGrid& grid, Point centre, Point low, Point high, Tone tone,
                   std::span<Coverage> coverage) {
  const int end_y = grid.end_pixel(centre.y + high.y);
  const int end_x = grid.end_pixel(centre.x + high.x);
  for (int y = grid.first_pixel(centre.y + low.y); y < end_y; ++y) {
    for (int x = grid.first_pixel(centre.x + low.x); x < end_x; ++x) {
      std::array<std::uint8_t, 3> hits{};
      for (int i = 0; i < kSamples; ++i) {
        const int sample_x = grid.position(x * kGrid + i % kGrid) - centre.x;
        const int sample_y = grid.position(y * kGrid + i / kGrid) - centre.y;
        ++hits[static_cast<std::size_t>(tone(sample_x, sample_y))];
      }
      Coverage& pixel = coverage[static_cast<std::size_t>(y * grid.half() + x)];
      pixel.first = static_cast<std::uint8_t>(pixel.first + hits[1]);
      pixel.second = static_cast<std::uint8_t>(pixel.second + hits[2]);
    }
  }
}

}  // namespace

void rasterize(const Item& item, int side, std::span<Coverage> coverage) {
  const SampleGrid grid(side);
  const Point centre = {kScene / 4 + item.dx * (kUnit / 4), kScene / 4 + item.dy * (kUnit / 4)};
  if (item.is_word()) {
    const std::string_view word = kWords[static_cast<std::size_t>(item.word)];
    const int width = text_width(word);
    // Whole pixels to the left of and above the centre, so that letters stay crisp.
    const Point corner = {centre.x - (width + 1) / 2 * kUnit, centre.y - kGlyphHeight / 2 * kUnit};
    const auto tone = [&](int x, int y) {
      return x >= 0 && y >= 0 && text_bit(word, x / kUnit, y / kUnit) ? 1 : 0;
    };
    count_samples(grid, corner, {0, 0}, {width * kUnit, kGlyphHeight * kUnit}, tone, coverage);
    return;
  }
  const Form& form = item.size == Size::small ? kSmall : kLarge;
  const int reach = form.triangle_half_width;  // the widest of the shapes
  for (const Point& member : group(item.count)) {
    const auto tone = [&](int x, int y) {
      return inside(item.shape, form, x, y) ? 1 + is_second_tone(item.texture, form, x, y) : 0;
    };
    count_samples(grid, {centre.x + member.x, centre.y + member.y}, {-reach, -reach},
                  {reach, reach}, tone, coverage);
  }
}

}  // namespace rtlynx
