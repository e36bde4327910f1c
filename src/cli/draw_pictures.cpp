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
#include "io/safetensors.h"
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

/// One command's pictures, from the request that was checked to the files.
class Drawing {
 public:
  Drawing(const std::filesystem::path& folder, const torch::TensorOptions& options,
          const PictureRun& run)
      : run_(run),
        name_(std::filesystem::weakly_canonical(folder).filename().string()),
        pipeline_(folder, options),
        request_(run.request),
        device_(c10::DeviceTypeName(options.device().type(), true)),
        dtype_(options.dtype() == torch::kBFloat16 ? "bf16" : "fp32") {
    for (const PictureJob& job : run.jobs) {
      request_.prompts.push_back(job.prompt);
      request_.seeds.push_back(job.seed);
    }
    settings_ = pipeline_.settings_for(request_);
    for (const LoraFile& lora : run.loras) {
      SafetensorsFile::open(lora.path);  // what cannot be read is refused before the work
      loras_.push_back({{"file", lora.path.filename().string()}, {"strength", lora.strength}});
    }
    check_picture_size();
  }

  void run() {
    say_what_is_cut();
    torch::nn::Module& transformer = pipeline_.prepare(request_, [](std::string_view part) {
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
            write(run_.jobs[first + i], images[i], run_.compare ? &dense[first + i] : nullptr));
      }
    });
    if (run_.json) print_report(report, "generate");
  }

 private:
  // Said before anything is drawn: the PNG writer would refuse a larger picture afterwards.
  void check_picture_size() const {
    const auto drawn = static_cast<int>(settings_.width);
    const int width = run_.scale * (run_.compare ? side_by_side_width(drawn) : drawn);
    const int height = run_.scale * static_cast<int>(settings_.height);
    if (std::max(width, height) <= kMaxSide) return;
    throw UsageError(
        fmt::format("--scale: required pictures of at most {} pixels a side, got {}x{}", kMaxSide,
                    width, height));
  }

  void say_what_is_cut() const {
    std::set<std::string> prompts(request_.prompts.begin(), request_.prompts.end());
    if (request_.negative) prompts.insert(*request_.negative);
    for (const std::string& prompt : prompts) {
      for (const std::string& sentence : pipeline_.model().warnings(prompt)) {
        terminal::say(fmt::format("{}: {}", in_quotes(prompt), sentence));
      }
    }
  }

  Report head() const {
    return {{"model", name_},
            {"mode", run_.mode},
            {"steps", settings_.steps},
            {"guidance", settings_.guidance},
            {"true_cfg", settings_.true_cfg},
            {"width", settings_.width},
            {"height", settings_.height},
            {"images", Report::array()}};
  }

  /// Returns the seconds per step.
  double draw(const std::string& label, const OnImages& on_images) {
    std::optional<ProgressBar> bar;
    int steps = 1;
    const auto start = std::chrono::steady_clock::now();
    pipeline_.draw(request_, {.on_step =
                                  [&](int finished, int all) {
                                    if (!bar) bar.emplace(label, all);
                                    steps = all;
                                    bar->update(finished);
                                  },
                              .on_images = on_images});
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    return elapsed.count() / steps;
  }

  Report write(const PictureJob& job, const Image& drawn, const Image* dense) const {
    Report entry = {{"path", job.path.string()}, {"prompt", job.prompt}, {"seed", job.seed}};
    if (dense) {
      const double decibels = psnr(*dense, drawn);
      // JSON has no infinity; identical pictures have no finite PSNR.
      entry["psnr"] = std::isfinite(decibels) ? Report(decibels) : Report();
      entry["ssim"] = ssim(*dense, drawn);
    }
    write_png(job.path, enlarge(dense ? side_by_side(*dense, drawn) : drawn, run_.scale),
              texts(job));
    if (!run_.json) {
      terminal::show(
          fmt::format("{}  seed {}  {}\n", job.path.string(), job.seed, in_quotes(job.prompt)));
    }
    return entry;
  }

  std::vector<PngText> texts(const PictureJob& job) const {
    Report facts = {{"prompt", job.prompt}, {"seed", job.seed}, {"model", name_}};
    if (request_.negative) facts["negative"] = *request_.negative;
    facts.update({{"mode", (run_.compare ? "dense and " : "") + run_.mode},
                  {"steps", settings_.steps},
                  {"guidance", settings_.guidance},
                  {"true_cfg", settings_.true_cfg},
                  {"width", settings_.width},
                  {"height", settings_.height},
                  {"batch", request_.batch},
                  {"device", device_},
                  {"dtype", dtype_}});
    if (!loras_.empty()) facts["loras"] = loras_;
    return picture_texts(facts);
  }

  const PictureRun& run_;
  std::string name_;
  TextToImagePipeline pipeline_;
  PictureRequest request_;
  PictureSettings settings_;
  std::string device_, dtype_;
  std::vector<Report> loras_;
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
