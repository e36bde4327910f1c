// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/select.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "kernels/gemm/workspace.h"

namespace rtlynx::gpu {
namespace {

constexpr int kStepChannels = 64;
constexpr int kStepRank = 32;  // low-rank columns that take the time of one step along K
constexpr int kMaxRank = 128;

// Sizes are added up as doubles, which cannot overflow.
double ceil_div(double value, double divisor) { return std::ceil(value / divisor); }

double token_tiles(const Gemm24Shape& shape, int tile_tokens) {
  return ceil_div(static_cast<double>(shape.tokens), tile_tokens);
}

double tiles(const Gemm24Shape& shape, int tile_tokens, int tile_outputs) {
  return token_tiles(shape, tile_tokens) *
         ceil_div(static_cast<double>(shape.outputs), tile_outputs);
}

double sm90_tiles(const Gemm24Shape& shape) {
  return tiles(shape, kSm90TileTokens, kSm90TileOutputs);
}

double k_steps(const Gemm24Shape& shape) {
  return ceil_div(static_cast<double>(shape.channels), kStepChannels);
}

double sm90_steps(const Gemm24Shape& shape) {
  return k_steps(shape) + ceil_div(shape.rank, kStepRank);
}

// Groups of equal height near `best`: with a small last one all of W would be read once more for
// few tokens.
int balanced_group(const Gemm24Shape& shape, int best) {
  const double rows = token_tiles(shape, kSm90TileTokens);
  return static_cast<int>(ceil_div(rows, std::max(1.0, std::round(rows / best))));
}

std::string format_capability(int capability) {
  return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

// Why the kernels cannot run; empty if they can.
std::string obstacle(const Gemm24Shape& shape, const DeviceTraits& device) {
  if (shape.dtype != DType::f16 && shape.dtype != DType::bf16) {
    return std::string("the sparse kernels take f16 or bf16, not ") + rtlynx::name_of(shape.dtype);
  }
  if (shape.outputs % 8 != 0) {
    return "N = " + std::to_string(shape.outputs) + " is not divisible by 8";
  }
  if (shape.channels % 16 != 0) {
    return "K = " + std::to_string(shape.channels) + " is not divisible by 16";
  }
  if (shape.rank < 0 || shape.rank % 16 != 0 || shape.rank > kMaxRank) {
    return "rank " + std::to_string(shape.rank) + " is not a multiple of 16 up to " +
           std::to_string(kMaxRank);
  }
  if (device.compute_capability < 80) {
    return "Sparse Tensor Cores need compute capability 8.0, the device has " +
           format_capability(device.compute_capability);
  }
  if (device.multiprocessors < 1) return "the number of multiprocessors is not known";
  if (device.compute_capability == 90 && device.shared_bytes < kSm90SharedBytes) {
    return "the sm90 kernels need " + std::to_string(kSm90SharedBytes) +
           " bytes of shared memory per block, the device has " +
           std::to_string(device.shared_bytes);
  }
  return {};
}

// A configuration and its time in microseconds.
struct Candidate {
  Gemm24Config config;
  double us = std::numeric_limits<double>::infinity();
};

/// Times by what steps and tiles take, the waves that the tiles make, and the memory bandwidth.
class Model {
 public:
  Model(const Gemm24Shape& shape, int multiprocessors, const Measurements& measured)
      : shape_(shape), multiprocessors_(multiprocessors), measured_(measured) {}

  Candidate fastest_sparse() const {
    const Candidate whole{config(/*stream_k=*/false), sparse_us(1)};
    const Candidate cut{config(/*stream_k=*/true), sparse_us(stream_k_slices(shape_, ctas()))};
    Candidate fastest = cut.us < whole.us ? cut : whole;
    fastest.us += pack_us();
    return fastest;
  }

  // Dense libraries have many tiles, and cut along K where there is less than one wave.
  double dense() const {
    double fastest = std::numeric_limits<double>::infinity();
    for (const MeasuredDense& tile : measured_.dense) {
      const double operations =
          2.0 * tile.tile_tokens * tile.tile_outputs * (k_steps(shape_) * kStepChannels);
      const double wave_us = operations / (tile.tflops * 1e6 / measured_.multiprocessors);
      const double waves = tiles(shape_, tile.tile_tokens, tile.tile_outputs) / multiprocessors_;
      fastest = std::min(fastest, total_us((waves < 1 ? waves : std::ceil(waves)) * wave_us));
    }
    return fastest;
  }

 private:
  Gemm24Config config(bool stream_k) const {
    return {.path = Gemm24Config::Path::sm90,
            .tile_tokens = kSm90TileTokens,
            .tile_outputs = kSm90TileOutputs,
            .cluster = cluster(),
            .group_tiles = balanced_group(shape_, measured_.group_tiles),
            .stream_k = stream_k};
  }

  int cluster() const { return std::min(measured_.cluster, multiprocessors_); }
  int ctas() const { return sm90_ctas(multiprocessors_, cluster()); }

  // With the tiles of the last wave cut into `slices`.
  double sparse_us(int slices) const {
    const double steps = sm90_steps(shape_);
    const double waves = sm90_tiles(shape_) / ctas();
    if (slices == 1) return total_us(std::ceil(waves) * tile_us(steps));
    return total_us(std::floor(waves) * tile_us(steps) + tile_us(ceil_div(steps, slices)) +
                    measured_.fixup_us);
  }

  // X and what becomes of it: 2 + 1 + 1/8 bytes an element.
  double pack_us() const {
    constexpr double kBytes = 3.125;
    const double elements =
        static_cast<double>(shape_.tokens) * static_cast<double>(shape_.channels);
    return measured_.pack_us + kBytes * elements / 1e6 * measured_.pack_us_per_megabyte;
  }

  double tile_us(double steps) const { return steps * measured_.step_us + measured_.tile_us; }

  // Nothing is faster than reading W and writing Y.
  double total_us(double busy_us) const {
    constexpr double kElementBytes = 2;
    const double bytes =
        kElementBytes * static_cast<double>(shape_.outputs) *
        (static_cast<double>(shape_.channels) + static_cast<double>(shape_.tokens));
    const double memory_us = bytes / (measured_.terabytes_per_second * 1e6);
    return measured_.launch_us + std::max(busy_us, memory_us);
  }

  Gemm24Shape shape_;
  int multiprocessors_;
  const Measurements& measured_;
};

Gemm24Choice faster(const Candidate& sparse, double dense_us, const char* verb,
                    const std::string& source, double margin = 1.0) {
  const std::string name = describe(sparse.config);
  const std::string times[] = {format_microseconds(sparse.us), format_microseconds(dense_us)};
  if (sparse.us * margin < dense_us) {
    return {sparse.config, name + ": " + verb + " " + times[0] + ", dense " + times[1] + source};
  }
  if (sparse.us < dense_us) {
    return {{},
            std::string("dense: ") + verb + " " + times[1] + ", " + name + " " + times[0] +
                ", too close to tell" + source};
  }
  return {{},
          std::string("dense: ") + verb + " " + times[1] + ", " + name + " " + times[0] + source};
}

bool is_device(const Measurements& measured, const DeviceTraits& device) {
  return measured.compute_capability == device.compute_capability &&
         measured.multiprocessors == device.multiprocessors;
}

bool is_shape(const MeasuredShape& known, const Gemm24Shape& shape) {
  return known.tokens == shape.tokens && known.outputs == shape.outputs &&
         known.channels == shape.channels && known.rank == shape.rank;
}

}  // namespace

const char* name_of(Gemm24Config::Path path) {
  switch (path) {
    case Gemm24Config::Path::dense:
      return "dense";
    case Gemm24Config::Path::sm80:
      return "sm80";
    case Gemm24Config::Path::sm90:
      return "sm90";
  }
  return "unknown";
}

std::string describe(const Gemm24Config& config) {
  std::string text = name_of(config.path);
  if (config.path != Gemm24Config::Path::sm90) return text;
  text.append(" ").append(std::to_string(config.tile_tokens));
  text.append("x").append(std::to_string(config.tile_outputs));
  if (config.cluster > 1) text.append(" cluster ").append(std::to_string(config.cluster));
  if (config.stream_k) text += " stream-K";
  return text;
}

bool is_sm90_config(const Gemm24Config& config) {
  return config.path == Gemm24Config::Path::sm90 && config.tile_tokens == kSm90TileTokens &&
         config.tile_outputs == kSm90TileOutputs && (config.cluster == 1 || config.cluster == 2) &&
         config.group_tiles >= 1;
}

int stream_k_slices(const Gemm24Shape& shape, int ctas) {
  const double ragged = std::fmod(sm90_tiles(shape), ctas);
  if (ragged == 0) return 1;
  const double most = std::floor(ctas / ragged);
  return static_cast<int>(std::min(most, sm90_steps(shape)));
}

std::string format_microseconds(double microseconds) {
  std::array<char, std::numeric_limits<double>::max_exponent10 + 8> digits;  // any number fits
  const auto end =
      std::to_chars(digits.begin(), digits.end(), microseconds, std::chars_format::fixed, 1);
  return std::string(digits.begin(), end.ptr) + " us";
}

void check_sizes(std::string_view op, const Gemm24Shape& shape) {
  if (shape.tokens < 1 || shape.outputs < 1 || shape.channels < 1) {
    fail(op, "M, N and K of at least 1",
         std::to_string(shape.tokens) + ", " + std::to_string(shape.outputs) + " and " +
             std::to_string(shape.channels));
  }
}

std::optional<Gemm24Choice> refuse_gemm24(const Gemm24Shape& shape, const DeviceTraits& device) {
  check_sizes("select_gemm24", shape);
  const std::string reason = obstacle(shape, device);
  if (reason.empty()) return std::nullopt;
  return Gemm24Choice{{}, "dense: " + reason};
}

Gemm24Choice select_gemm24(const Gemm24Shape& shape, const DeviceTraits& device,
                           const Measurements& measured) {
  if (auto refused = refuse_gemm24(shape, device)) return *refused;
  if (device.compute_capability != 90) {
    return {{},
            "dense: the sm80 path was not measured on compute capability " +
                format_capability(device.compute_capability)};
  }
  const std::string gpu = measured.gpu;
  const auto known = std::find_if(measured.shapes.begin(), measured.shapes.end(),
                                  [&](const auto& row) { return is_shape(row, shape); });
  if (is_device(measured, device) && known != measured.shapes.end()) {
    return faster({known->config, known->sparse_us}, known->dense_us, "measured",
                  " (on an " + gpu + ")");
  }
  if (shape.tokens < measured.least_tokens) {
    return {{},
            "dense: with fewer than " + std::to_string(measured.least_tokens) +
                " tokens it was faster (measured on an " + gpu + ")"};
  }
  const Model model(shape, device.multiprocessors, measured);
  return faster(model.fastest_sparse(), model.dense(), "estimated", " (measured on an " + gpu + ")",
                measured.estimate_margin);
}

Gemm24Choice select_gemm24(const Gemm24Shape& shape, const DeviceTraits& device) {
  return select_gemm24(shape, device, kH200);
}

std::size_t gemm24_workspace_bytes(const Gemm24Config& config, const DeviceTraits& device) {
  if (config.path != Gemm24Config::Path::sm90 || !config.stream_k) return 0;
  return Gemm24Workspace::bytes(device.multiprocessors, config.tile_tokens, config.tile_outputs);
}

}  // namespace rtlynx::gpu
