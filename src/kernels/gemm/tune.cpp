// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/tune.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "kernels/gemm/select.h"

namespace rtlynx::gpu {
namespace {

using Path = Gemm24Config::Path;

constexpr std::string_view kHeader = "rtlynx-tune 1";
constexpr std::uintmax_t kMaxFileBytes = 16 << 20;

bool is_control(char character) {
  const auto code = static_cast<unsigned char>(character);
  return code < 0x20 || code == 0x7f;
}

// A field as an error message may show it: a file's content is not to be trusted.
std::string shown(std::string_view field) {
  constexpr std::size_t kMaxShown = 40;
  std::string text(field.substr(0, kMaxShown));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return is_control(c) || c < 0; }, '?');
  return "\"" + text + "\"";
}

bool is_gpu_name(std::string_view name) {
  const auto is_bad = [](char c) { return c == '|' || is_control(c); };
  return !name.empty() && std::none_of(name.begin(), name.end(), is_bad);
}

// Only what was built, and on devices that have the instructions.
bool is_config(const Gemm24Config& config, const DeviceTraits& device) {
  if (config.path == Path::dense || config.path == Path::sm80) return true;
  return device.compute_capability == 90 && is_sm90_config(config);
}

struct Row {
  std::string_view gpu;
  DeviceTraits device;
  Gemm24Shape shape;
  TunedGemm24 fastest;
};

void check_row(std::string_view op, const Row& row) {
  if (!is_gpu_name(row.gpu)) {
    fail(op, "the name of a GPU without '|' and control characters", shown(row.gpu));
  }
  check_sizes(op, row.shape);
  // The row may come from a device whose shared memory is not in the file.
  DeviceTraits device = row.device;
  device.shared_bytes = kSm90SharedBytes;
  if (const auto refused = refuse_gemm24(row.shape, device)) {
    fail(op, "a product that the sparse kernels can run", refused->reason);
  }
  if (!is_config(row.fastest.config, device)) {
    fail(op, "a configuration that the device can run", describe(row.fastest.config));
  }
  if (!std::isfinite(row.fastest.microseconds) || row.fastest.microseconds <= 0) {
    fail(op, "microseconds above 0", std::to_string(row.fastest.microseconds));
  }
}

template <typename... Values>
std::string join(const Values&... values) {
  std::string text;
  const auto append = [&](const auto& value) {
    if (!text.empty()) text += '|';
    text += value;
  };
  (append(values), ...);
  return text;
}

std::string key_of(std::string_view gpu, const DeviceTraits& device, const Gemm24Shape& shape) {
  return join(gpu, std::to_string(device.compute_capability),
              std::to_string(device.multiprocessors), rtlynx::name_of(shape.dtype),
              std::to_string(shape.tokens), std::to_string(shape.outputs),
              std::to_string(shape.channels), std::to_string(shape.rank));
}

std::string value_of(const TunedGemm24& tuned) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.begin(), digits.end(), tuned.microseconds);
  const Gemm24Config& config = tuned.config;
  return join(name_of(config.path), std::to_string(config.tile_tokens),
              std::to_string(config.tile_outputs), std::to_string(config.cluster),
              std::to_string(config.group_tiles), config.stream_k ? "1" : "0",
              std::string_view(digits.begin(), end.ptr));
}

/// Takes a line apart, field by field.
class Fields {
 public:
  Fields(std::string_view line, std::string_view op) : rest_(line), op_(op) {}

  std::string_view text(std::string_view name) {
    if (ended_) fail(op_, "a field for " + std::string(name), "the end of the line");
    const std::size_t bar = rest_.find('|');
    const std::string_view field = rest_.substr(0, bar);
    ended_ = bar == std::string_view::npos;
    if (!ended_) rest_.remove_prefix(bar + 1);
    return field;
  }

  template <typename Number>
  Number number(std::string_view name) {
    const std::string_view field = text(name);
    Number value{};
    const auto end = std::from_chars(field.data(), field.data() + field.size(), value);
    if (end.ec != std::errc{} || end.ptr != field.data() + field.size()) {
      fail(op_, "a number for " + std::string(name), shown(field));
    }
    return value;
  }

  // The value whose name the field has.
  template <typename Value, std::size_t kCount, typename Name>
  Value one_of(std::string_view name, const std::array<Value, kCount>& values, Name name_of_value) {
    const std::string_view field = text(name);
    for (const Value& value : values) {
      if (field == name_of_value(value)) return value;
    }
    fail(op_, "a known " + std::string(name), shown(field));
  }

  void end() const {
    if (!ended_) fail(op_, "the end of the line after 15 fields", shown(rest_));
  }

 private:
  std::string_view rest_;
  std::string_view op_;
  bool ended_ = false;
};

Row parse_row(std::string_view line, std::string_view op) {
  Fields fields(line, op);
  Row row;
  row.gpu = fields.text("the GPU");
  row.device.compute_capability = fields.number<int>("the compute capability");
  row.device.multiprocessors = fields.number<int>("the multiprocessors");
  row.shape.dtype = fields.one_of("dtype", std::array{DType::f16, DType::bf16},
                                  [](DType dtype) { return rtlynx::name_of(dtype); });
  row.shape.tokens = fields.number<std::int64_t>("M");
  row.shape.outputs = fields.number<std::int64_t>("N");
  row.shape.channels = fields.number<std::int64_t>("K");
  row.shape.rank = fields.number<int>("the rank");
  Gemm24Config& config = row.fastest.config;
  config.path = fields.one_of("path", std::array{Path::dense, Path::sm80, Path::sm90},
                              [](Path path) { return name_of(path); });
  config.tile_tokens = fields.number<int>("the tile's tokens");
  config.tile_outputs = fields.number<int>("the tile's outputs");
  config.cluster = fields.number<int>("the cluster");
  config.group_tiles = fields.number<int>("the group");
  config.stream_k =
      fields.one_of("stream-K", std::array{false, true}, [](bool on) { return on ? "1" : "0"; });
  row.fastest.microseconds = fields.number<double>("the microseconds");
  fields.end();
  return row;
}

std::string quoted(const std::filesystem::path& path) {
  return std::string("\"").append(path.string()).append("\"");
}

[[noreturn]] void fail_system(const char* action, const std::filesystem::path& path,
                              std::error_code error) {
  throw Error("tune cache: cannot " + std::string(action) + " " + quoted(path) + ": " +
              error.message());
}

// The whole file; nothing if there is none.
std::optional<std::string> read_text(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) return std::nullopt;
  if (error) fail_system("read", path, error);
  if (!std::filesystem::is_regular_file(status)) {
    fail("tune cache " + quoted(path), "a regular file", "something else");
  }
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) fail_system("read", path, error);
  if (size > kMaxFileBytes) {
    fail("tune cache " + quoted(path), "at most " + std::to_string(kMaxFileBytes) + " bytes",
         std::to_string(size));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (!file) fail_system("read", path, std::make_error_code(std::errc::io_error));
  return text;
}

// Calls body(line, op) for every line after the header; `op` names the line in messages. Every line
// must be ended, so that a cut file is not taken for a whole one.
template <typename Body>
void for_each_row(std::string_view text, const std::filesystem::path& path, Body body) {
  for (int number = 1; number == 1 || !text.empty(); ++number) {
    const std::string op = "tune cache " + quoted(path) + ", line " + std::to_string(number);
    const std::size_t length = text.find('\n');
    const std::string_view line = text.substr(0, length);
    if (number == 1 && line != kHeader) fail(op, shown(kHeader), shown(line));
    if (length == std::string_view::npos) fail(op, "a line end", "the end of the file");
    if (number > 1) body(line, op);
    text.remove_prefix(length + 1);
  }
}

// A name in the same folder that no other process has.
std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  std::random_device random;
  const std::string unique = std::to_string(random()) + "-" + std::to_string(random());
  return path.parent_path() / (".rtlynx-" + unique + ".tmp");
}

void replace_file(const std::filesystem::path& path, const std::string& text) {
  const std::filesystem::path temporary = temporary_beside(path);
  std::ofstream file(temporary, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  std::error_code error;
  if (file) {
    std::filesystem::rename(temporary, path, error);
  } else {
    error = std::make_error_code(std::errc::io_error);
  }
  if (error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    fail_system("write", path, error);
  }
}

const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

}  // namespace

std::filesystem::path TuneCache::default_path() {
  if (const char* path = variable("RTLYNX_TUNE_CACHE")) return path;
  const auto below = std::filesystem::path("rtlynx") / "tune.txt";
  if (const char* folder = variable("XDG_CACHE_HOME")) return folder / below;
  if (const char* home = variable("HOME")) return std::filesystem::path(home) / ".cache" / below;
  fail("tune cache", "the variable RTLYNX_TUNE_CACHE, XDG_CACHE_HOME or HOME", "none of them");
}

TuneCache TuneCache::load(const std::filesystem::path& path) {
  TuneCache cache;
  const std::optional<std::string> text = read_text(path);
  if (!text) return cache;
  for_each_row(*text, path, [&](std::string_view line, const std::string& op) {
    const Row row = parse_row(line, op);
    check_row(op, row);
    cache.rows_.insert_or_assign(key_of(row.gpu, row.device, row.shape), row.fastest);
  });
  return cache;
}

void TuneCache::save(const std::filesystem::path& path) const {
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error) fail_system("make the folder of", path, error);
  std::string text = std::string(kHeader) + "\n";
  for (const auto& [key, tuned] : rows_) text += join(key, value_of(tuned)) + "\n";
  replace_file(path, text);
}

void TuneCache::insert(std::string_view gpu, const DeviceTraits& device, const Gemm24Shape& shape,
                       const TunedGemm24& fastest) {
  check_row("tune cache", {gpu, device, shape, fastest});
  rows_.insert_or_assign(key_of(gpu, device, shape), fastest);
}

std::optional<TunedGemm24> TuneCache::lookup(std::string_view gpu, const DeviceTraits& device,
                                             const Gemm24Shape& shape) const {
  const auto row = rows_.find(key_of(gpu, device, shape));
  if (row == rows_.end()) return std::nullopt;
  return row->second;
}

Gemm24Choice select_gemm24(const Gemm24Shape& shape, const DeviceTraits& device,
                           const TuneCache& cache, std::string_view gpu) {
  if (auto refused = refuse_gemm24(shape, device)) return *refused;
  const auto tuned = cache.lookup(gpu, device, shape);
  if (!tuned) return select_gemm24(shape, device);
  return {tuned->config, describe(tuned->config) + ": measured " +
                             format_microseconds(tuned->microseconds) +
                             " on this GPU (tune cache)"};
}

}  // namespace rtlynx::gpu
