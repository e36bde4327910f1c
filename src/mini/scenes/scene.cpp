// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/scene.h"

#include <cstddef>
#include <cstdlib>
#include <string>
#include <utility>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr float kWordShare = 0.2f;
constexpr float kTexturedShare = 0.5f;  // of the shapes that may carry a texture

struct Triple {
  Shape shape;
  Color color;
  Position position;
};

// The splitmix64 finaliser. The seed is part of the data set: another one is another split.
constexpr std::uint64_t hash(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

constexpr std::uint64_t kSplitSeed = 7230;

template <typename Enum>
Enum draw(Rng& rng, int values) {
  return static_cast<Enum>(rng.below(values));
}

std::vector<Triple> list_held_out() {
  std::vector<Triple> triples;
  for (int shape = 0; shape < kShapes; ++shape)
    for (int color = 0; color < kColors; ++color)
      for (int position = 0; position < kPositions; ++position) {
        const Triple triple = {static_cast<Shape>(shape), static_cast<Color>(color),
                               static_cast<Position>(position)};
        if (is_held_out(triple.shape, triple.color, triple.position)) triples.push_back(triple);
      }
  return triples;
}

const std::vector<Triple>& held_out_triples() {
  static const std::vector<Triple> triples = list_held_out();
  return triples;
}

void draw_details(Rng& rng, Item& item) {
  item.size = draw<Size>(rng, kSizes);
  item.count = item.size == Size::small ? rng.between(1, kMaxCount) : 1;
  if (takes_texture(item.shape) && rng.chance(kTexturedShare))
    item.texture = rng.below(2) == 0 ? Texture::striped : Texture::checkered;
  item.dx = rng.between(-kShapeJitter, kShapeJitter);
  item.dy = rng.between(-kShapeJitter, kShapeJitter);
}

Item sample_word(Rng& rng, Position position) {
  Item item;
  item.position = position;
  item.word = rng.below(static_cast<int>(kWords.size()));
  item.color = draw<Color>(rng, kColors);
  item.dx = 4 * rng.between(-kWordJitter / 4, kWordJitter / 4);
  item.dy = 4 * rng.between(-kWordJitter / 4, kWordJitter / 4);
  return item;
}

Item sample_item(Rng& rng, Position position, Split split) {
  if (rng.chance(kWordShare)) return sample_word(rng, position);
  Item item;
  item.position = position;
  do {
    item.shape = draw<Shape>(rng, kShapes);
    item.color = draw<Color>(rng, kColors);
  } while (split == Split::train && is_held_out(item));
  draw_details(rng, item);
  return item;
}

Item sample_held_out_item(Rng& rng) {
  const std::vector<Triple>& triples = held_out_triples();
  const Triple& triple =
      triples[static_cast<std::size_t>(rng.below(static_cast<int>(triples.size())))];
  Item item;
  item.shape = triple.shape;
  item.color = triple.color;
  item.position = triple.position;
  draw_details(rng, item);
  return item;
}

void validate(const Item& item) {
  const auto demand = [](bool ok, const char* required) {
    if (!ok) throw UsageError(std::string("scene: required ") + required);
  };
  demand(item.word >= Item::kNoWord && item.word < static_cast<int>(kWords.size()),
         "a word out of the fixed list");
  if (item.is_word()) {
    demand(std::abs(item.dx) <= kWordJitter && std::abs(item.dy) <= kWordJitter &&
               item.dx % 4 == 0 && item.dy % 4 == 0,
           "words within two whole pixels of their place");
    return;
  }
  demand(item.count >= 1 && item.count <= kMaxCount, "one to three shapes in an item");
  demand(item.count == 1 || item.size == Size::small, "small shapes in groups of two and three");
  demand(item.texture == Texture::plain || takes_texture(item.shape), "plain rings and crosses");
  demand(std::abs(item.dx) <= kShapeJitter && std::abs(item.dy) <= kShapeJitter,
         "shapes within 1.5 pixels of their place");
}

}  // namespace

std::string_view name(Shape shape) {
  constexpr std::string_view kNames[] = {"circle", "square", "triangle", "ring", "cross"};
  return kNames[static_cast<std::size_t>(shape)];
}

std::string_view name(Color color) {
  constexpr std::string_view kNames[] = {"red",    "green",  "blue", "yellow",
                                         "purple", "orange", "cyan", "white"};
  return kNames[static_cast<std::size_t>(color)];
}

std::string_view name(Size size) {
  constexpr std::string_view kNames[] = {"small", "large"};
  return kNames[static_cast<std::size_t>(size)];
}

std::string_view name(Texture texture) {
  constexpr std::string_view kNames[] = {"plain", "striped", "checkered"};
  return kNames[static_cast<std::size_t>(texture)];
}

std::string_view name(Position position) {
  constexpr std::string_view kNames[] = {"top left", "top right", "bottom left", "bottom right"};
  return kNames[static_cast<std::size_t>(position)];
}

std::string_view name(Background background) {
  constexpr std::string_view kNames[] = {"black", "gray", "navy"};
  return kNames[static_cast<std::size_t>(background)];
}

bool is_held_out(Shape shape, Color color, Position position) {
  const auto index =
      (static_cast<std::uint64_t>(shape) * kColors + static_cast<std::uint64_t>(color)) *
          kPositions +
      static_cast<std::uint64_t>(position);
  return hash(hash(kSplitSeed) + index) % 10 == 0;
}

bool is_held_out(const Item& item) {
  return !item.is_word() && is_held_out(item.shape, item.color, item.position);
}

Scene sample_scene(Rng& rng, Split split) {
  Scene scene;
  scene.background = draw<Background>(rng, kBackgrounds);
  scene.glow = static_cast<std::uint8_t>(rng.between(0, 255));
  const int items = rng.between(1, kMaxItems);

  std::vector<Position> free = {Position::top_left, Position::top_right, Position::bottom_left,
                                Position::bottom_right};
  if (split == Split::held_out) {
    scene.items.push_back(sample_held_out_item(rng));
    std::erase(free, scene.items.front().position);
  }
  while (static_cast<int>(scene.items.size()) < items) {
    const auto pick = free.begin() + rng.below(static_cast<int>(free.size()));
    const Position position = *pick;
    free.erase(pick);
    scene.items.push_back(sample_item(rng, position, split));
  }
  // The held-out item was made first; it shall not always be said first.
  if (split == Split::held_out)
    std::swap(scene.items.front(), scene.items[static_cast<std::size_t>(rng.below(items))]);
  return scene;
}

void validate(const Scene& scene) {
  if (scene.items.empty() || scene.items.size() > static_cast<std::size_t>(kMaxItems))
    throw UsageError("scene: required one to three items, got " +
                     std::to_string(scene.items.size()));
  unsigned taken = 0;
  for (const Item& item : scene.items) {
    validate(item);
    const unsigned bit = 1u << static_cast<unsigned>(item.position);
    if (taken & bit)
      throw UsageError("scene: required distinct positions, got two items at the " +
                       std::string(name(item.position)));
    taken |= bit;
  }
}

}  // namespace rtlynx
