// SPDX-License-Identifier: Apache-2.0
#include "cli/draw_pictures.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "cli/output.h"
#include "cli/picture_texts.h"
#include "cli/progress.h"
#include "io/json.h"
#include "io/png.h"
#include "io/terminal.h"
#include "io/text.h"
#include "metrics/psnr.h"
#include "metrics/ssim.h"
#include "models/recipe.h"
#include "pipeline/comparison.h"

namespace rtlynx::cli {
namespace {

constexpr int kMaxSide = 8192;

using Report = nlohmann::ordered_json;
using OnImages = std::function<void(std::size_t first, std::vector<Image>)>;

/// Consecutive jobs of one size.
struct Part {
  std::size_t first = 0;  // job
  PictureRequest request;
  PictureSettings settings;

  int steps() const {
    const std::size_t count = request.prompts.size();
    const auto batch = static_cast<std::size_t>(request.batch);
    return static_cast<int>((count + batch - 1) / batch) * settings.steps_to_run();
  }
};

std::vector<Part> parts_of(const PictureRun& run) {
  std::vector<Part> parts;
  for (std::size_t i = 0; i < run.jobs.size(); ++i) {
    const PictureJob& job = run.jobs[i];
    if (i == 0 || job.size != run.jobs[i - 1].size) {
      parts.push_back({.first = i, .request = run.request, .settings = {}});
      if (job.size) {
        parts.back().request.width = job.size->width;
        parts.back().request.height = job.size->height;
      }
    }
    parts.back().request.prompts.push_back(job.prompt);
    parts.back().request.seeds.push_back(job.seed);
  }
  return parts;
}

/// One command's pictures, from the request that was checked to the files.
class Drawing {
 public:
  Drawing(const std::filesystem::path& folder, const torch::TensorOptions& options,
          const PictureRun& run)
      : run_(run),
        name_(path_text(std::filesystem::weakly_canonical(folder).filename())),
        pipeline_(folder, options, run.transformer_file),
        parts_(parts_of(run)),
        device_(c10::DeviceTypeName(options.device().type(), true)),
        dtype_(options.dtype() == torch::kBFloat16 ? "bf16" : "fp32") {
    for (Part& part : parts_) {
      part.settings = settings_for(part);
      check_picture_size(part.settings);
    }
    // What does not match is refused before the text encoders are loaded.
    const TextToImageModel& model = pipeline_.model();
    if (!run.loras.empty()) {
      read_loras(*model.outline(), model.foreign_modules(), run.loras,
                 [](const std::string& sentence) { terminal::say(sentence); });
    }
    for (const LoraFile& lora : run.loras) {
      loras_.push_back({{"file", path_text(lora.path.filename())}, {"strength", lora.strength}});
    }
    if (!run.prompt_cache.empty()) pipeline_.set_prompt_cache(PromptCache(run.prompt_cache));
  }

  void run() {
    say_what_is_cut();
    torch::nn::Module& transformer = pipeline_.prepare(all_prompts(), [](std::string_view part) {
      if (::isatty(STDERR_FILENO) != 0) terminal::say(fmt::format("loading {}", part));
    });
    apply_updates(transformer,
                  read_loras(transformer, pipeline_.model().foreign_modules(), run_.loras));
    const std::vector<LayerGroup> groups = pipeline_.model().groups();
    run_.set_layers(transformer, groups);  // what does not fit is refused before dense is drawn
    Report report = head();
    std::vector<Image> dense;
    if (run_.compare) {
      make_dense(transformer);
      report["seconds_per_step_dense"] = draw("dense", [&](std::size_t, std::vector<Image> images) {
        std::move(images.begin(), images.end(), std::back_inserter(dense));
      });
      run_.set_layers(transformer, groups);
    }
    report["seconds_per_step"] = draw(run_.mode, [&](std::size_t first, std::vector<Image> images) {
      for (std::size_t i = 0; i < images.size(); ++i) {
        report["images"].push_back(
            write(first + i, images[i], run_.compare ? &dense[first + i] : nullptr));
      }
    });
    if (run_.json) print_report(report, "generate");
  }

 private:
  PictureSettings settings_for(const Part& part) const {
    const PictureJob& job = run_.jobs[part.first];
    if (!job.size) return pipeline_.settings_for(part.request);
    try {
      return pipeline_.settings_for(part.request);
    } catch (const UsageError& error) {
      throw UsageError(job.where + ": " + error.what());
    }
  }

  // Said before anything is drawn: the PNG writer would refuse a larger picture afterwards.
  void check_picture_size(const PictureSettings& settings) const {
    const auto drawn = static_cast<int>(settings.width);
    const int width = run_.scale * (run_.compare ? side_by_side_width(drawn) : drawn);
    const int height = run_.scale * static_cast<int>(settings.height);
    if (std::max(width, height) <= kMaxSide) return;
    throw UsageError(
        fmt::format("--scale: required pictures of at most {} pixels a side, got {}x{}", kMaxSide,
                    width, height));
  }

  /// The same in every part.
  const PictureSettings& common() const { return parts_.front().settings; }

  const Part& part_of(std::size_t job) const {
    return *std::find_if(parts_.rbegin(), parts_.rend(),
                         [job](const Part& part) { return part.first <= job; });
  }

  PictureRequest all_prompts() const {
    PictureRequest request = parts_.front().request;
    for (std::size_t i = request.prompts.size(); i < run_.jobs.size(); ++i) {
      request.prompts.push_back(run_.jobs[i].prompt);
      request.seeds.push_back(run_.jobs[i].seed);
    }
    return request;
  }

  void say_what_is_cut() const {
    std::set<std::string> prompts;
    for (const PictureJob& job : run_.jobs) prompts.insert(job.prompt);
    if (common().guided()) prompts.insert(*common().negative);
    for (const std::string& prompt : prompts) {
      for (const std::string& sentence : pipeline_.model().warnings(prompt)) {
        terminal::say(fmt::format("{}: {}", in_quotes(prompt), sentence));
      }
    }
  }

  Report head() const {
    Report report = {{"model", name_}, {"mode", run_.mode}};
    report.update(settings_report(common()));
    // Of one size only: each picture says its own as well.
    if (parts_.size() > 1) {
      report.erase("width");
      report.erase("height");
    }
    report["images"] = Report::array();
    return report;
  }

  static Report settings_report(const PictureSettings& settings) {
    return {{"steps", settings.steps},
            {"guidance", settings.guidance},
            {"true_cfg", settings.true_cfg},
            {"cfg_truncation", settings.cfg_truncation},
            {"cfg_normalization", settings.cfg_normalization},
            {"width", settings.width},
            {"height", settings.height}};
  }

  /// Returns the seconds per step.
  double draw(const std::string& label, const OnImages& on_images) {
    int all = 0;
    for (const Part& part : parts_) all += part.steps();
    ProgressBar bar(label, all);
    int before = 0;
    const auto start = std::chrono::steady_clock::now();
    for (const Part& part : parts_) {
      PictureCallbacks callbacks{
          .on_step = [&](int finished, int) { bar.update(before + finished); },
          .on_images =
              [&](std::size_t first, std::vector<Image> images) {
                on_images(part.first + first, std::move(images));
              },
          .on_preview = [&](std::size_t,
                            const std::vector<Image>& images) { preview(images.front()); }};
      if (!run_.preview.empty()) callbacks.preview_every = run_.preview_every;
      pipeline_.draw(part.request, callbacks);
      before += part.steps();
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    return elapsed.count() / all;
  }

  // The pictures go on without it.
  void preview(const Image& image) {
    try {
      write_png(run_.preview, image, {});
    } catch (const Error& error) {
      if (!std::exchange(preview_failed_, true)) {
        terminal::say(std::string("generate: no preview: ") + error.what());
      }
    }
  }

  Report write(std::size_t index, const Image& drawn, const Image* dense) const {
    const PictureJob& job = run_.jobs[index];
    Report entry = {{"path", path_text(job.path)},
                    {"prompt", job.prompt},
                    {"seed", job.seed},
                    {"width", drawn.width},
                    {"height", drawn.height}};
    if (dense) {
      const double decibels = psnr(*dense, drawn);
      // JSON has no infinity; identical pictures have no finite PSNR.
      entry["psnr"] = std::isfinite(decibels) ? Report(decibels) : Report();
      entry["ssim"] = ssim(*dense, drawn);
    }
    write_png(job.path, enlarge(dense ? side_by_side(*dense, drawn) : drawn, run_.scale),
              texts(index));
    if (!run_.json) {
      terminal::show(
          fmt::format("{}  seed {}  {}\n", path_text(job.path), job.seed, in_quotes(job.prompt)));
    }
    return entry;
  }

  std::vector<PngText> texts(std::size_t index) const {
    const PictureJob& job = run_.jobs[index];
    const PictureSettings& settings = part_of(index).settings;
    Report facts = {{"prompt", job.prompt}, {"seed", job.seed}, {"model", name_}};
    if (settings.guided()) facts["negative"] = *settings.negative;
    facts["mode"] = (run_.compare ? "dense and " : "") + run_.mode;
    facts.update(settings_report(settings));
    facts.update({{"batch", run_.request.batch}, {"device", device_}, {"dtype", dtype_}});
    if (!run_.transformer_file.empty()) {
      facts["transformer"] = path_text(run_.transformer_file.filename());
    }
    if (run_.request.image) {
      facts["image"] = path_text(std::filesystem::path(run_.image).filename());
      facts["strength"] = run_.request.strength;
    }
    if (!loras_.empty()) facts["loras"] = loras_;
    return picture_texts(facts);
  }

  const PictureRun& run_;
  std::string name_;
  TextToImagePipeline pipeline_;
  std::vector<Part> parts_;
  std::string device_, dtype_;
  std::vector<Report> loras_;
  bool preview_failed_ = false;
};

}  // namespace

LayerSetter set_recipe_to(LinearMode mode) {
  return [mode](torch::nn::Module& transformer, const std::vector<LayerGroup>& groups) {
    apply_recipe(transformer, paper_layers(groups), mode);
  };
}

bool holds_text_to_image_model(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "model_index.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return false;  // lynx-mini's loader says what is there
  const std::string name =
      json_string(read_json_file(path), "_class_name", printable(path.string()));
  return name != "LynxMiniPipeline";
}

void draw_pictures(const std::filesystem::path& folder, const torch::TensorOptions& options,
                   const PictureRun& run) {
  Drawing(folder, options, run).run();
}

}  // namespace rtlynx::cli
