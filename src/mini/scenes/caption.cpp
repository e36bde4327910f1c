// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/caption.h"

#include <cstddef>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

namespace rtlynx {
namespace {

struct Unsaid {
  bool size = false;
  bool texture = false;
  bool position = false;
};

constexpr std::string_view kCounts[] = {"", "", "two", "three"};

std::string plural(Shape shape) {
  return std::string(name(shape)) + (shape == Shape::cross ? "es" : "s");
}

void append(std::string& text, std::string_view word) {
  if (word.empty()) return;
  if (!text.empty() && text.back() != ' ') text += ' ';
  text += word;
}

std::string describe(const Item& item, const Unsaid& unsaid) {
  std::string text;
  if (item.is_word()) {
    append(text, "the word");
    append(text, kWords[static_cast<std::size_t>(item.word)]);
    append(text, "in");
    append(text, name(item.color));
  } else {
    append(text, kCounts[item.count]);
    if (!unsaid.size) append(text, name(item.size));
    if (!unsaid.texture && item.texture != Texture::plain) append(text, name(item.texture));
    append(text, name(item.color));
    append(text, item.count > 1 ? plural(item.shape) : std::string(name(item.shape)));
  }
  if (!unsaid.position) append(text, name(item.position));
  return text;
}

template <typename DrawUnsaid>
std::string describe(const Scene& scene, bool with_background, DrawUnsaid draw_unsaid) {
  validate(scene);
  std::string text;
  for (const Item& item : scene.items) {
    if (!text.empty()) text += ", ";
    text += describe(item, draw_unsaid());
  }
  // No comma here: three full items and a background are then exactly kMaxTokens tokens.
  if (with_background) text.append(" on ").append(name(scene.background));
  return text;
}

std::vector<std::string> scene_words() {
  std::vector<std::string> words = {"<pad>", ",",      "two",  "three", "word",
                                    "top",   "bottom", "left", "right"};
  for (int i = 0; i < kSizes; ++i) words.emplace_back(name(static_cast<Size>(i)));
  for (int i = 1; i < kTextures; ++i) words.emplace_back(name(static_cast<Texture>(i)));
  for (int i = 0; i < kColors; ++i) words.emplace_back(name(static_cast<Color>(i)));
  for (int i = 0; i < kShapes; ++i) words.emplace_back(name(static_cast<Shape>(i)));
  for (int i = 0; i < kBackgrounds; ++i) words.emplace_back(name(static_cast<Background>(i)));
  for (const std::string_view word : kWords) words.emplace_back(word);
  return words;
}

std::map<std::string, std::string> scene_aliases() {
  std::map<std::string, std::string> aliases = {{"and", ","},
                                                {"2", "two"},
                                                {"3", "three"},
                                                {"big", "large"},
                                                {"little", "small"},
                                                {"tiny", "small"},
                                                {"upper", "top"},
                                                {"lower", "bottom"},
                                                {"grey", "gray"},
                                                {"violet", "purple"},
                                                {"plus", "cross"},
                                                {"disc", "circle"},
                                                {"disk", "circle"},
                                                {"checked", "checkered"},
                                                {"chequered", "checkered"},
                                                {"stripy", "striped"}};
  // The number of shapes is a word of its own, so a plural need not be.
  for (int i = 0; i < kShapes; ++i)
    aliases.emplace(plural(static_cast<Shape>(i)), name(static_cast<Shape>(i)));
  return aliases;
}

}  // namespace

std::string caption(const Scene& scene) {
  return describe(scene, true, [] { return Unsaid{}; });
}

std::string caption(const Scene& scene, Rng& rng, const CaptionDropout& dropout) {
  const bool with_background = !rng.chance(dropout.background);
  return describe(scene, with_background, [&] {
    Unsaid unsaid;
    unsaid.size = rng.chance(dropout.size);
    unsaid.texture = rng.chance(dropout.texture);
    unsaid.position = rng.chance(dropout.position);
    return unsaid;
  });
}

const Vocabulary& scene_vocabulary() {
  // "one" and "plain" go unsaid in captions, so no model has learnt them; they change nothing.
  static const Vocabulary vocabulary(scene_words(),
                                     {"a", "an", "the", "of", "in", "at", "on", "with", "one", "1",
                                      "plain", "single", "background"},
                                     scene_aliases());
  return vocabulary;
}

}  // namespace rtlynx
