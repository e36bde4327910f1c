// SPDX-License-Identifier: Apache-2.0
#include <cstddef>

#include "mini/scenes/checker.h"

namespace rtlynx {
namespace {

using Found = QuadrantReading::Found;

void count(Tally& tally, bool right) { tally += {right ? 1 : 0, 1}; }

void score_item(const Item& wanted, const QuadrantReading& reading, CaptionScore& result) {
  const Item& seen = reading.item;
  const bool found = reading.found == Found::item;
  const bool same_kind = found && seen.is_word() == wanted.is_word();
  count(result.position, found);
  count(result.color, found && seen.color == wanted.color);
  if (wanted.is_word()) {
    count(result.word, same_kind && seen.word == wanted.word);
    return;
  }
  count(result.shape, same_kind && seen.shape == wanted.shape);
  count(result.count, same_kind && seen.count == wanted.count);
  count(result.size, same_kind && seen.size == wanted.size);
  if (takes_texture(wanted.shape))
    count(result.texture, same_kind && seen.texture == wanted.texture);
}

bool all_right(const Tally& tally) { return tally.right == tally.total; }

}  // namespace

Tally& Tally::operator+=(const Tally& other) {
  right += other.right;
  total += other.total;
  return *this;
}

CaptionScore& CaptionScore::operator+=(const CaptionScore& other) {
  position += other.position;
  shape += other.shape;
  word += other.word;
  color += other.color;
  count += other.count;
  size += other.size;
  texture += other.texture;
  background += other.background;
  shape_color_position += other.shape_color_position;
  everything += other.everything;
  return *this;
}

CaptionScore score(const Scene& wanted, const SceneReading& reading) {
  CaptionScore result;
  for (const Item& item : wanted.items) score_item(item, reading.at(item.position), result);
  count(result.background, reading.background == wanted.background);

  std::size_t occupied = 0;
  for (const QuadrantReading& quadrant : reading.quadrants)
    occupied += quadrant.found == Found::empty ? 0 : 1;
  const bool essentials = occupied == wanted.items.size() && all_right(result.shape) &&
                          all_right(result.word) && all_right(result.color);
  count(result.shape_color_position, essentials);
  count(result.everything, essentials && all_right(result.count) && all_right(result.size) &&
                               all_right(result.texture) && all_right(result.background));
  return result;
}

}  // namespace rtlynx
