// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/picture_size.h"
#include "cli/treatment.h"
#include "models/checkpoint/apply_lora.h"
#include "pipeline/text_to_image.h"

namespace rtlynx::cli {

/// A picture to make.
struct PictureJob {
  std::string prompt;
  std::uint64_t seed = 0;
  std::filesystem::path path;
  std::optional<PictureSize> size;  ///< where it is another than all pictures'
  std::string where;                ///< of the prompt, for messages
};

/// What is drawn with a model in a folder of diffusers, and how it is written.
struct PictureRun {
  std::vector<PictureJob> jobs;
  PictureRequest request;              ///< without prompts and seeds, which are the jobs'
  std::string mode;                    ///< as reports name it
  std::filesystem::path compensation;  ///< the file that set_layers applies, or none
  std::vector<LoraFile> loras;
  LayerSetter set_layers;
  std::string image;                       ///< the file of request.image
  std::filesystem::path prompt_cache;      ///< a folder, or none
  std::filesystem::path transformer_file;  ///< weights in place of the folder's, or none
  std::filesystem::path preview;           ///< a PNG file for what is being drawn, or none
  int preview_every = 5;                   ///< steps
  std::filesystem::path preview_vae;       ///< a folder with what decodes it, or none
  std::optional<std::int64_t> vae_memory;  ///< MiB for the autoencoder; larger pictures in tiles
  bool force = false;                      ///< sparse where dense is faster, too (choose_by_gain)
  bool compare = false;  ///< dense as well: one picture with dense, sparse, their difference
  int scale = 1;         ///< each pixel becomes scale x scale
  bool json = false;     ///< a report on standard output instead of a line for each picture
};

/// Whether `folder` holds such a model, rather than lynx-mini or none.
bool holds_text_to_image_model(const std::filesystem::path& folder);

/// Draws all jobs and writes each batch's pictures as soon as they are drawn. What can be refused
/// is refused before anything is computed. Ctrl-C, SIGTERM or SIGHUP end it behind the step at
/// work: what is written stays, the report of it is printed, and Error is thrown.
void draw_pictures(const std::filesystem::path& folder, const torch::TensorOptions& options,
                   const PictureRun& run);

}  // namespace rtlynx::cli
