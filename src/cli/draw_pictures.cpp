// SPDX-License-Identifier: Apache-2.0
#include "cli/draw_pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/picture_parts.h"
#include "cli/picture_texts.h"
#include "cli/progress.h"
#include "cli/prompts.h"
#include "io/json.h"
#include "io/memory.h"
#include "io/png.h"
#include "io/terminal.h"
#include "io/text.h"
#include "metrics/psnr.h"
#include "metrics/ssim.h"
#include "models/device_memory.h"
#include "models/recipe.h"
#include "pipeline/comparison.h"

namespace rtlynx::cli {
namespace {

constexpr int kMaxSide = 8192;

using Report = nlohmann::ordered_json;
using OnImages = std::function<void(std::size_t first, std::vector<Image>)>;

/// Steps of finished batches, and how long they took.
struct DrawnSteps {
  int count = 0;
  double seconds = 0;
};

/// Somebody wants the command to end.
struct Interrupted {};

/// One command's pictures, from the request that was checked to the files.
class Drawing {
 public:
  Drawing(const std::filesystem::path& folder, const torch::TensorOptions& options,
          const PictureRun& run)
      : run_(run),
        name_(path_text(std::filesystem::weakly_canonical(folder).filename())),
        pipeline_(folder, options, run.transformer_file),
        parts_(parts_of(run)),
        place_(options.device()),
        device_(c10::DeviceTypeName(options.device().type(), true)),
        dtype_(options.dtype() == torch::kBFloat16 ? "bf16" : "fp32"),
        vae_memory_(run.vae_memory) {
    for (PicturePart& part : parts_) {
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
    tokens_ = smallest_tokens();
    if (!run.force) choice_ = choose_by_gain(options, tokens_);
    pipeline_.set_layer_change([this](torch::nn::Module& loaded) { set_layers(loaded); });
    if (!run.preview_vae.empty()) pipeline_.set_preview_decoder(run.preview_vae);
    if (vae_memory_) pipeline_.set_vae_memory(*vae_memory_);
    if (!run.prompt_cache.empty()) pipeline_.set_prompt_cache(PromptCache(run.prompt_cache));
  }

  void run() {
    say_what_is_cut(pipeline_.model(), all_prompts());
    report_ = head();
    bool interrupted = false;
    try {
      draw_all();
    } catch (const Interrupted&) {
      interrupted = true;
    }
    report_times();
    if (run_.json) print_report(report_, "generate");
    if (!interrupted) return;
    throw Error(fmt::format("generate: interrupted; {} of {} pictures are written",
                            report_["images"].size(), run_.jobs.size()));
  }

 private:
  PictureSettings settings_for(const PicturePart& part) const {
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

  /// The same in every part, but for the size.
  const PictureSettings& common() const { return parts_.front().settings; }

  const PicturePart& part_of(std::size_t job) const {
    return *std::find_if(parts_.rbegin(), parts_.rend(),
                         [job](const PicturePart& part) { return part.first <= job; });
  }

  std::set<std::string> all_prompts() const {
    std::set<std::string> prompts;
    for (const PictureJob& job : run_.jobs) prompts.insert(job.prompt);
    if (common().guided()) prompts.insert(*common().negative);
    return prompts;
  }

  Report head() const {
    Report report = {{"model", name_}, {"mode", run_.mode}};
    if (!run_.compensation.empty()) report["compensation"] = path_text(run_.compensation);
    report.update(settings_report(common()));
    // Of one size only: each picture says its own as well.
    const auto is_other = [&](const PicturePart& part) {
      return part.settings.width != common().width || part.settings.height != common().height;
    };
    if (std::any_of(parts_.begin(), parts_.end(), is_other)) {
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

  void draw_all() {
    int steps = 0;
    for (const PicturePart& part : parts_) steps += part.steps() * (run_.compare ? 2 : 1);
    ProgressBar bar(run_.mode, steps);
    for (std::size_t i = 0; i < parts_.size();) {
      const std::size_t end = end_of_prompts_at_once(parts_, i);
      pipeline_.prepare(request_of(parts_, i, end), callbacks());
      for (; i < end; ++i) draw_part(parts_[i], bar);
    }
  }

  /// Of a batch of the smallest pictures: more tokens gain more.
  StreamTokens smallest_tokens() const {
    const ModelFacts facts = pipeline_.model().facts();
    StreamTokens smallest = facts.tokens(common().width, common().height);
    for (const PicturePart& part : parts_) {
      const StreamTokens tokens = facts.tokens(part.settings.width, part.settings.height);
      if (tokens.image < smallest.image) smallest = tokens;
    }
    return {.image = run_.request.batch * smallest.image,
            .text = run_.request.batch * smallest.text};
  }

  // The pipeline does it to each transformer that it loads.
  void set_layers(torch::nn::Module& transformer) {
    const TextToImageModel& model = pipeline_.model();
    const bool first = layers_.wanted == 0;
    layers_ = run_.set_layers(transformer, model.groups(), choice_,
                              read_loras(transformer, model.foreign_modules(), run_.loras));
    if (first) say_what_stays_dense("generate", layers_, tokens_);
  }

  void draw_part(const PicturePart& part, ProgressBar& bar) {
    std::vector<Image> dense;
    if (run_.compare) {
      const LayerModes modes(pipeline_.transformer());
      make_dense(pipeline_.transformer());
      draw(part, bar, "dense", dense_, [&](std::size_t, std::vector<Image> images) {
        std::move(images.begin(), images.end(), std::back_inserter(dense));
      });
      modes.restore(pipeline_.transformer());
    }
    draw(part, bar, {}, sparse_, [&](std::size_t first, std::vector<Image> images) {
      for (std::size_t i = 0; i < images.size(); ++i) {
        report_["images"].push_back(
            write(part.first + first + i, images[i], run_.compare ? &dense[first + i] : nullptr));
      }
    });
  }

  void draw(const PicturePart& part, ProgressBar& bar, const std::string& note, DrawnSteps& drawn,
            const OnImages& on_images) {
    PictureCallbacks on = callbacks();
    on.on_step = [&](int finished, int) {
      bar.update(finished_steps_ + finished, note);
      stop_if_interrupted();
    };
    on.on_images = on_images;
    on.on_preview = [&](std::size_t, const std::vector<Image>& images) { preview(images.front()); };
    on.on_no_preview = [&] { say_no_preview("no memory is left for it"); };
    on.on_tiles = [&](std::int64_t mebibytes) { go_on_in_tiles(mebibytes); };
    if (!run_.preview.empty()) on.preview_every = run_.preview_every;
    const double before = pipeline_.times().denoising;
    pipeline_.draw(part.request, on);
    drawn.seconds += pipeline_.times().denoising - before;
    drawn.count += part.steps();
    finished_steps_ += part.steps();
  }

  /// While parts are loaded and prompts encoded.
  PictureCallbacks callbacks() const {
    PictureCallbacks on;
    on.on_load = [this](std::string_view part) {
      return stoppable(loading_bar(fmt::format("loading {}", part)));
    };
    on.on_encoded = stoppable(loading_bar("encoding prompts", ProgressUnit::steps));
    return on;
  }

  LoadProgress stoppable(const LoadProgress& bar) const {
    return [this, bar](std::uint64_t finished, std::uint64_t all) {
      bar(finished, all);
      stop_if_interrupted();
    };
  }

  void stop_if_interrupted() const {
    if (scope_.interrupted()) throw Interrupted();
  }

  void report_times() {
    const WorkTimes& times = pipeline_.times();
    report_["load_seconds"] = times.loading;
    report_["encode_seconds"] = times.encoding;
    if (dense_.count > 0) report_["seconds_per_step_dense"] = dense_.seconds / dense_.count;
    if (sparse_.count > 0) report_["seconds_per_step"] = sparse_.seconds / sparse_.count;
    report_["decode_seconds"] = times.decoding;
    if (layers_.wanted > 0) report_["sparse_layers"] = layers_.sparse;
    report_["peak_host_memory"] = peak_host_memory();
    if (const auto bytes = peak_memory(place_)) report_["peak_device_memory"] = *bytes;
  }

  void go_on_in_tiles(std::int64_t mebibytes) {
    vae_memory_ = mebibytes;
    terminal::say(
        fmt::format("generate: no memory is left for whole pictures in the autoencoder; they go "
                    "through it in tiles, as with --vae-memory {}",
                    mebibytes));
  }

  // The pictures go on without it.
  void preview(const Image& image) {
    try {
      write_png(run_.preview, image, {});
    } catch (const Error& error) {
      say_no_preview(error.what());
    }
  }

  void say_no_preview(const std::string& reason) {
    if (!std::exchange(preview_failed_, true)) terminal::say("generate: no preview: " + reason);
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
    if (!run_.compensation.empty()) {
      facts["compensation"] = path_text(run_.compensation.filename());
    }
    facts.update(settings_report(settings));
    facts.update({{"batch", run_.request.batch}, {"device", device_}, {"dtype", dtype_}});
    if (layers_.wanted > 0) facts["sparse_layers"] = layers_.sparse;
    if (!run_.transformer_file.empty()) {
      facts["transformer"] = path_text(run_.transformer_file.filename());
    }
    if (run_.request.image) {
      facts["image"] = path_text(std::filesystem::path(run_.image).filename());
      facts["strength"] = run_.request.strength;
    }
    if (!loras_.empty()) facts["loras"] = loras_;
    if (vae_memory_) facts["vae_memory"] = *vae_memory_;
    return picture_texts(facts);
  }

  const PictureRun& run_;
  std::string name_;
  TextToImagePipeline pipeline_;
  std::vector<PicturePart> parts_;
  torch::Device place_;
  std::string device_, dtype_;
  std::optional<std::int64_t> vae_memory_;  // MiB
  std::vector<Report> loras_;
  StreamTokens tokens_;  // of a step
  SparseChoice choice_;
  SparseLayers layers_;
  bool preview_failed_ = false;
  Report report_;
  int finished_steps_ = 0;
  DrawnSteps dense_, sparse_;
  const InterruptScope scope_;
};

}  // namespace

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
