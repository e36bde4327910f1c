// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/select.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "kernels/gemm/time_model.h"
#include "kernels/gemm/workspace.h"

namespace rtlynx::gpu {
namespace {

std::string format_capability(int capability) {
  return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

// Why the kernels cannot run; empty if they can.
std::string obstacle(const Gemm24Shape& shape, const DeviceTraits& device) {
  if (shape.dtype != DType::f16 && shape.dtype != DType::bf16) {
    return std::string("the sparse kernels take f16 or bf16, not ") + rtlynx::name_of(shape.dtype);
  }
  if (shape.outputs % kOutputMultiple != 0) {
    return "N = " + std::to_string(shape.outputs) + " is not divisible by 8";
  }
  if (shape.channels % kChannelMultiple != 0) {
    return "K = " + std::to_string(shape.channels) + " is not divisible by 16";
  }
  if (shape.rank < 0 || shape.rank % kRankMultiple != 0 || shape.rank > kMaxRank) {
    return "rank " + std::to_string(shape.rank) + " is not a multiple of 16 up to " +
           std::to_string(kMaxRank);
  }
  if (device.compute_capability < kLeastComputeCapability) {
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

Gemm24Choice faster(const TimedConfig& sparse, double dense_us, const char* verb,
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

Gemm24Config exchanged(Gemm24Config config) {
  std::swap(config.tile_tokens, config.tile_outputs);
  return config;
}

bool is_device(const Measurements& measured, const DeviceTraits& device) {
  return measured.compute_capability == device.compute_capability &&
         measured.multiprocessors == device.multiprocessors;
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

bool is_sm90_weight_config(const Gemm24Config& config) { return is_sm90_config(exchanged(config)); }

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
  const MeasuredShape* known = find_measured(shape, measured);
  if (is_device(measured, device) && known != nullptr) {
    return faster({known->config, known->sparse_us}, known->dense_us, "measured",
                  " (on an " + gpu + ")");
  }
  if (shape.tokens < measured.least_tokens) {
    return {{},
            "dense: with fewer than " + std::to_string(measured.least_tokens) +
                " tokens it was faster (measured on an " + gpu + ")"};
  }
  const TimeModel model(shape, device.multiprocessors, measured);
  return faster(model.fastest_sparse(), model.dense_us(), "estimated",
                " (measured on an " + gpu + ")", measured.estimate_margin);
}

Gemm24Config fastest_sparse(const Gemm24Shape& shape, const DeviceTraits& device) {
  if (device.compute_capability != 90) return {.path = Gemm24Config::Path::sm80};
  const MeasuredShape* known = find_measured(shape, kH200);
  if (is_device(kH200, device) && known != nullptr) return known->config;
  return TimeModel(shape, device.multiprocessors, kH200).fastest_sparse().config;
}

Gemm24Config fastest_weight24(const Gemm24Shape& shape, const DeviceTraits& device) {
  Gemm24Shape turned = shape;
  std::swap(turned.tokens, turned.outputs);
  return exchanged(TimeModel(turned, device.multiprocessors, kH200).fastest_sparse().config);
}

Gemm24Choice select_gemm24(const Gemm24Shape& shape, const DeviceTraits& device) {
  return select_gemm24(shape, device, kH200);
}

std::size_t product24_workspace_bytes(const Gemm24Config& config, const DeviceTraits& device) {
  if (config.path != Gemm24Config::Path::sm90 || !config.stream_k) return 0;
  return Gemm24Workspace::bytes(device.multiprocessors, config.tile_tokens, config.tile_outputs);
}

}  // namespace rtlynx::gpu
