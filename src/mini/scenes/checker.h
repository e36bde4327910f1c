// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>

#include "base/image.h"
#include "mini/scenes/scene.h"

namespace rtlynx {

/// What the checker makes of one quadrant.
struct QuadrantReading {
  enum class Found { empty, item, unreadable };

  Found found = Found::empty;
  Item item;           // the best explanation if found == item
  float match = 0.0f;  // share of the quadrant's contrast that the item explains, at most 1
};

struct SceneReading {
  Background background = Background::black;
  std::array<QuadrantReading, kPositions> quadrants;  // indexed by Position

  const QuadrantReading& at(Position position) const {
    return quadrants[static_cast<std::size_t>(position)];
  }
};

/// Reads a picture of kSceneSide pixels back by analysis through synthesis, without its caption: it
/// fits the background to the margins that no item touches, then draws every item that a quadrant
/// may hold and takes the one with the least squared error. It tolerates noise, slight blur and
/// colours that are somewhat off. Throws Error for another size. Thread-safe.
SceneReading read_scene(const Image& image);

struct Tally {
  int right = 0;
  int total = 0;

  double rate() const { return total == 0 ? 0.0 : static_cast<double>(right) / total; }
  Tally& operator+=(const Tally& other);
};

/// How far a picture keeps to its caption. Each item asked for counts once under every attribute
/// that its caption names; an item that was not read at its position is wrong in all of them.
struct CaptionScore {
  Tally position;  // anything readable there
  Tally shape;     // shape items
  Tally word;      // word items
  Tally color;     // all items
  Tally count;     // shape items
  Tally size;      // shape items
  Tally texture;   // shape items that may carry a texture
  Tally background;
  /// One per picture: every item there with its shape or word and its colour, and nothing else.
  Tally shape_color_position;
  /// One per picture: the same, and every other attribute right as well.
  Tally everything;

  CaptionScore& operator+=(const CaptionScore& other);
};

CaptionScore score(const Scene& wanted, const SceneReading& reading);

}  // namespace rtlynx
