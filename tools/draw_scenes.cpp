// SPDX-License-Identifier: Apache-2.0
// Writes batches of training scenes to standard output, for trainers that are not rtlynx's own: the
// pictures [batch, 64, 64, 3] as bytes, then the ids of their captions [batch, 24] as bytes.
// Several processes share a run, each with every `stride`-th batch.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <vector>

#include "mini/scenes/caption.h"
#include "mini/scenes/scene.h"
#include "mini/scenes/training_scene.h"
#include "options/number.h"

namespace {

using rtlynx::options::whole_number;

constexpr std::size_t kPictureBytes = std::size_t{rtlynx::kSceneSide} * rtlynx::kSceneSide * 3;

struct Options {
  rtlynx::TrainingScenes scenes;
  std::uint64_t batch = 192;
  std::uint64_t batches = 1;
  std::uint64_t first = 0;
  std::uint64_t stride = 1;
};

/// [batch, pictures] and [batch, ids] of batch number `index`.
std::vector<std::uint8_t> draw_batch(const Options& options, std::uint64_t index) {
  const rtlynx::Vocabulary& vocabulary = rtlynx::scene_vocabulary();
  std::vector<std::uint8_t> bytes(options.batch * (kPictureBytes + rtlynx::kMaxTokens));
  const std::span<std::uint8_t> pictures(bytes.data(), options.batch * kPictureBytes);
  std::uint8_t* ids = bytes.data() + pictures.size();
  for (std::uint64_t i = 0; i < options.batch; ++i) {
    const std::vector<int> words =
        rtlynx::draw_training_scene(options.scenes, index * options.batch + i, vocabulary,
                                    pictures.subspan(i * kPictureBytes, kPictureBytes));
    std::transform(words.begin(), words.end(), ids + i * rtlynx::kMaxTokens,
                   [](int word) { return static_cast<std::uint8_t>(word); });
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) try {
  Options options;
  CLI::App app("Write training scenes to standard output: pictures, then ids of captions");
  app.add_option("--seed", options.scenes.seed)->transform(rtlynx::options::seed());
  app.add_flag("--leaves", options.scenes.leaves, "Dead leaves behind the items");
  app.add_option("--batch", options.batch)->transform(whole_number(1, 65536));
  app.add_option("--batches", options.batches, "Of the run")->transform(whole_number(1));
  app.add_option("--first", options.first, "First batch of this process")
      ->transform(whole_number(0));
  app.add_option("--stride", options.stride, "From one batch of this process to the next")
      ->transform(whole_number(1, 65536));
  CLI11_PARSE(app, argc, argv);
  for (std::uint64_t i = options.first; i < options.batches; i += options.stride) {
    const std::vector<std::uint8_t> bytes = draw_batch(options, i);
    if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) return 1;
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "draw_scenes: %s\n", error.what());
  return 1;
}
