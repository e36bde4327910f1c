// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cli/picture_size.h"
#include "mini/word_encoder.h"
#include "models/text_to_image/model.h"

namespace rtlynx::cli {

/// A prompt and where it stands, for messages: "prompts.txt, line 3", "--prompt 2".
struct Prompt {
  std::string text;
  std::string where;
  std::optional<std::uint64_t> seed;  ///< of its first picture
  std::optional<PictureSize> size;
};

/// The prompts of `--prompt`, in order.
std::vector<Prompt> prompts_of_options(const std::vector<std::string>& texts);

/// The prompts in a text file, one per line: UTF-8, with or without a byte order mark, or UTF-16
/// with one; lines end with LF, CRLF or CR, blank ones count but are no prompts. If the first
/// prompt begins as a JSON object does, {"key", every line is one: "prompt" and, if wanted, "seed"
/// and "size". Throws UsageError, beginning with `where` and the line, for bytes that are no text,
/// for control characters and for objects with other keys or values.
std::vector<Prompt> parse_prompts(std::string_view bytes, const std::string& where);

/// The same of a file or pipe; "-" is standard input.
std::vector<Prompt> read_prompts(const std::filesystem::path& path);

/// Throws UsageError, beginning with the prompt's place, for one that the encoder cannot read.
void check_prompts(const std::vector<Prompt>& prompts, const TextEncoder& encoder);

/// Says what of the prompts the model's text encoders do not read.
void say_what_is_cut(const TextToImageModel& model, const std::set<std::string>& prompts);

}  // namespace rtlynx::cli
