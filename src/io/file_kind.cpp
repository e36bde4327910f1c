// SPDX-License-Identifier: Apache-2.0
#include "io/file_kind.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace rtlynx {
namespace {

using namespace std::string_view_literals;

struct Known {
  std::string_view mark;
  std::string_view is;
};

constexpr std::string_view kPickle =
    "a pickle, which can run code and is not read; save the tensors by "
    "safetensors.torch.save_file and use that file";

constexpr std::array<Known, 14> kBeginnings = {{
    {"version https://git-lfs.github.com/spec/"sv,
     "a Git LFS pointer, which only stands for the file; git lfs pull in its repository, or a "
     "download, fetches it"sv},
    {"GGUF"sv, "a GGUF file, whose quantized tensors are not read; take the model's safetensors"sv},
    {"PK\x03\x04"sv, kPickle},  // torch.save since 1.6: a zip with a pickle in it
    {"\x80\x02"sv, kPickle},
    {"\x80\x03"sv, kPickle},
    {"\x80\x04"sv, kPickle},
    {"\x80\x05"sv, kPickle},
    {"\x1f\x8b"sv, "a gzip archive; unpack it first"sv},
    {"7z\xbc\xaf\x27\x1c"sv, "a 7z archive; unpack it first"sv},
    {"\x93NUMPY"sv, "a NumPy array; save the tensors by safetensors.numpy.save_file"sv},
    {"\x89HDF\r\n"sv, "an HDF5 file; save the tensors as safetensors"sv},
    {"\x89PNG\r\n"sv, "a PNG picture"sv},
    {"\xff\xd8\xff"sv, "a JPEG picture"sv},
    {"RIFF"sv, "a RIFF file, such as a WebP picture"sv},
}};

constexpr std::array<Known, 10> kTensorEndings = {{
    {"scaled_fp8"sv, "ComfyUI's scaled FP8"sv},
    {".scale_weight"sv, "ComfyUI's scaled FP8"sv},
    {".scale_input"sv, "ComfyUI's scaled FP8"sv},
    {".comfy_quant"sv, "ComfyUI's quantization"sv},
    {".weight_scale"sv, "scaled FP8 or INT8"sv},
    {".input_scale"sv, "scaled FP8 or INT8"sv},
    {".weight.absmax"sv, "bitsandbytes' quantization"sv},
    {".weight.quant_map"sv, "bitsandbytes' quantization"sv},
    {".qweight"sv, "an integer quantization"sv},
    {".smooth_factor"sv, "SVDQuant"sv},
}};

constexpr std::array<std::string_view, 4> kOriginalBeginnings = {
    "model.diffusion_model."sv, "double_blocks."sv, "single_blocks."sv, "diffusion_model."sv};

// A web page, or a server's complaint in XML, where a download went wrong.
bool is_markup(std::string_view text) {
  const auto begin = std::find_if(text.begin(), text.end(), [](unsigned char c) {
    return std::isspace(c) == 0 && c < 0x80;  // not a byte order mark
  });
  std::string lower(begin,
                    std::min(text.end(), begin + std::min<std::ptrdiff_t>(16, text.end() - begin)));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower.starts_with("<!doctype") || lower.starts_with("<html") ||
         lower.starts_with("<head") || lower.starts_with("<?xml") || lower.starts_with("<error");
}

}  // namespace

std::optional<std::string> describe_foreign_file(std::span<const std::byte> bytes) {
  constexpr std::size_t kLooked = 512;
  const auto first = bytes.first(std::min(bytes.size(), kLooked));
  const std::string_view text(reinterpret_cast<const char*>(first.data()), first.size());
  if (text.empty()) return "an empty file, as an interrupted download leaves it";
  for (const auto& [mark, is] : kBeginnings) {
    if (text.starts_with(mark)) return std::string(is);
  }
  if (is_markup(text)) {
    return "a web page, as a server sends it that asks for a login or an accepted licence; "
           "download "
           "the file again";
  }
  return std::nullopt;
}

std::optional<std::string> describe_foreign_tensor(std::string_view name) {
  for (const auto& [ending, is] : kTensorEndings) {
    if (name.ends_with(ending)) {
      return std::string(is) +
             ", whose weights mean nothing without their scales and are not read; take the model "
             "in bf16, fp16 or fp32";
    }
  }
  for (const std::string_view beginning : kOriginalBeginnings) {
    if (name.starts_with(beginning)) {
      return "the names of the original checkpoint; take the one in diffusers' layout, whose "
             "transformer/ names them transformer_blocks";
    }
  }
  return std::nullopt;
}

}  // namespace rtlynx
