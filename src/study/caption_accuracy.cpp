// SPDX-License-Identifier: Apache-2.0
#include "study/caption_accuracy.h"

#include <ATen/Parallel.h>

#include <iterator>
#include <numeric>

#include "base/error.h"
#include "data/caption.h"

namespace rtlynx {
namespace {

std::vector<CaptionScore> read_and_score(const std::vector<Scene>& scenes,
                                         const std::vector<Image>& images) {
  std::vector<CaptionScore> scores(images.size());
  at::parallel_for(0, static_cast<std::int64_t>(images.size()), /*grain_size=*/1,
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       scores[i] = score(scenes[i], read_scene(images[i]));
                     }
                   });
  return scores;
}

}  // namespace

CaptionSuite make_caption_suite(int count, std::uint64_t seed, bool leaves) {
  Rng rng(seed);
  CaptionSuite suite;
  for (int i = 0; i < count; ++i) {
    Scene& scene = suite.scenes.emplace_back(sample_scene(rng, Split::held_out));
    suite.captions.push_back(caption(scene));
    if (leaves) scene.leaves = mixed_seed(seed, static_cast<std::uint64_t>(i));
  }
  return suite;
}

void check_draws_scenes(const Pipeline& pipeline) {
  require(pipeline.trained_size == kSceneSide, pipeline.name,
          "a model of " + std::to_string(kSceneSide) + "-pixel scenes",
          std::to_string(pipeline.trained_size));
}

AccuracyRun measure_caption_accuracy(Pipeline& pipeline, const CaptionSuite& suite,
                                     GenerateRequest request, int batch,
                                     const std::function<void(int)>& on_image) {
  check_draws_scenes(pipeline);
  request.width = request.height = kSceneSide;
  request.prompts = suite.captions;
  request.seeds.resize(suite.captions.size());
  std::iota(request.seeds.begin(), request.seeds.end(), std::uint64_t{0});
  AccuracyRun run;
  pipeline.generate_in_batches(request, batch, [&](std::size_t, std::vector<Image> images) {
    std::move(images.begin(), images.end(), std::back_inserter(run.images));
    if (on_image) on_image(static_cast<int>(run.images.size()));
  });
  if (pipeline.leaves) return run;  // the checker takes a leaf for an item
  run.scores = read_and_score(suite.scenes, run.images);
  for (const CaptionScore& one : run.scores) run.score += one;
  return run;
}

nlohmann::ordered_json to_json(const CaptionScore& score) {
  return {{"shape_color_position", score.shape_color_position.rate()},
          {"everything", score.everything.rate()},
          {"shape", score.shape.rate()},
          {"color", score.color.rate()},
          {"position", score.position.rate()},
          {"count", score.count.rate()},
          {"size", score.size.rate()},
          {"texture", score.texture.rate()},
          {"word", score.word.rate()},
          {"background", score.background.rate()}};
}

}  // namespace rtlynx
