// SPDX-License-Identifier: Apache-2.0
#include "mini/caption_accuracy.h"

#include <iterator>
#include <mutex>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "mini/scenes/caption.h"
#include "pipeline/pixels.h"
#include "pipeline/tasks.h"

namespace rtlynx {
namespace {

std::vector<CaptionScore> read_and_score(const std::vector<Scene>& scenes,
                                         const std::vector<Image>& images) {
  std::vector<CaptionScore> scores(images.size());
  run_tasks(torch::kCPU, images.size(),
            [&](std::size_t i) { scores[i] = score(scenes[i], read_scene(images[i])); });
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
                                     const std::function<void(int)>& on_image,
                                     const BatchVelocityCallback& on_velocity) {
  check_draws_scenes(pipeline);
  request.width = request.height = kSceneSide;
  request.prompts = suite.captions;
  request.seeds.resize(suite.captions.size());
  std::iota(request.seeds.begin(), request.seeds.end(), std::uint64_t{0});
  pipeline.text_encoder->encode(
      request.prompts);  // refuses an unknown word before anything is drawn
  const int at_once = pipeline.pictures_at_once(batch);
  const std::vector<GenerateRequest> parts = split_request(request, at_once);
  std::vector<std::vector<Image>> images(parts.size());
  std::mutex one_at_a_time;
  int finished = 0;
  run_tasks(pipeline.options().device(), parts.size(), [&](std::size_t i) {
    const DrawnBatch drawn{.first = i * static_cast<std::size_t>(at_once),
                           .pictures = parts[i].prompts.size()};
    VelocityCallback on_step;
    if (on_velocity) {
      on_step = [&](int step, const FluxInputs& inputs, const torch::Tensor& velocity) {
        const std::scoped_lock lock(one_at_a_time);
        on_velocity(drawn, step, inputs, velocity);
      };
    }
    images[i] = images_from_pixels(pipeline.generate_pixels(parts[i], {}, on_step));
    const std::scoped_lock lock(one_at_a_time);
    finished += static_cast<int>(drawn.pictures);
    if (on_image) on_image(finished);
  });
  AccuracyRun run;
  for (std::vector<Image>& part : images) {
    std::move(part.begin(), part.end(), std::back_inserter(run.images));
  }
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
