// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/image.h"
#include "base/rng.h"

namespace rtlynx {

/// Rings and crosses are thin lines, 1.5 to 2 pixels: fine detail is what sparsity loses first.
enum class Shape : std::uint8_t { circle, square, triangle, ring, cross };
enum class Color : std::uint8_t { red, green, blue, yellow, purple, orange, cyan, white };
enum class Size : std::uint8_t { small, large };
enum class Texture : std::uint8_t { plain, striped, checkered };
enum class Position : std::uint8_t { top_left, top_right, bottom_left, bottom_right };
enum class Background : std::uint8_t { black, gray, navy };

inline constexpr int kShapes = 5;
inline constexpr int kColors = 8;
inline constexpr int kSizes = 2;
inline constexpr int kTextures = 3;
inline constexpr int kPositions = 4;
inline constexpr int kBackgrounds = 3;

/// The words that a scene may spell out, in a 5x7 bitmap font.
inline constexpr std::array<std::string_view, 12> kWords = {
    "lynx", "cat", "dog", "owl", "fish", "bird", "frog", "bear", "sun", "moon", "star", "tree"};

inline constexpr int kSceneSide = 64;   // pixels; geometry is defined at this size
inline constexpr int kMaxItems = 3;     // per scene
inline constexpr int kMaxCount = 3;     // shapes per item
inline constexpr int kShapeJitter = 6;  // quarter pixels either way
inline constexpr int kWordJitter = 8;   // quarter pixels either way, whole pixels only
inline constexpr int kItemMargin = 2;   // pixels at each quadrant's edges that no item touches

/// What one quadrant of a scene shows: one to three equal shapes, or a word.
struct Item {
  static constexpr int kNoWord = -1;

  int word = kNoWord;  // index into kWords; then shape, count, size and texture mean nothing
  Shape shape = Shape::circle;
  int count = 1;  // 2 and 3 only when small
  Size size = Size::large;
  Texture texture = Texture::plain;  // rings and crosses are always plain
  Color color = Color::red;
  Position position = Position::top_left;
  int dx = 0;  // offset from the quadrant's centre, quarter pixels
  int dy = 0;

  bool is_word() const { return word != kNoWord; }
  bool operator==(const Item&) const = default;
};

struct Scene {
  Background background = Background::black;
  std::uint8_t glow = 128;  // strength of the background's vertical gradient
  std::vector<Item> items;  // one to three, at distinct positions, in the order of the caption
  std::optional<std::uint64_t> leaves;  // seed of the dead leaves over the background

  bool operator==(const Scene&) const = default;
};

/// The word of the caption for each value ("top left" for a position).
std::string_view name(Shape shape);
std::string_view name(Color color);
std::string_view name(Size size);
std::string_view name(Texture texture);
std::string_view name(Position position);
std::string_view name(Background background);

/// True when the shape may carry stripes or a checkerboard.
constexpr bool takes_texture(Shape shape) { return shape != Shape::ring && shape != Shape::cross; }

/// Which scenes may be drawn: about a tenth of the (shape, color, position) triples never occur in
/// training, while each pair of attributes does. A held-out scene holds at least one such triple.
enum class Split : std::uint8_t { train, held_out };

bool is_held_out(Shape shape, Color color, Position position);
bool is_held_out(const Item& item);

Scene sample_scene(Rng& rng, Split split);

/// Throws UsageError unless the scene keeps the rules above.
void validate(const Scene& scene);

/// Draws the scene as a square picture, antialiased, in integer arithmetic throughout: the pixels
/// are the same on every platform. Thread-safe.
Image render(const Scene& scene, int side = kSceneSide);

/// The same into the caller's buffer: [side, side, 3], row-major.
void render(const Scene& scene, int side, std::span<std::uint8_t> rgb);

}  // namespace rtlynx
