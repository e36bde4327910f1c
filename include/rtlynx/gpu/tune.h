// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "rtlynx/gpu/gemm24.h"

/// Configurations measured on this machine, kept in a file.
namespace rtlynx::gpu {

struct TunedGemm24 {
  Gemm24Config config;
  double microseconds = 0;

  friend bool operator==(const TunedGemm24&, const TunedGemm24&) = default;
};

/// The fastest configuration of each GPU model and shape. The file is text: "rtlynx-tune 1", then a
/// row per line,
///   GPU|cc|multiprocessors|dtype|M|N|K|rank|path|tokens|outputs|cluster|group|stream-K|microseconds
class TuneCache {
 public:
  /// $RTLYNX_TUNE_CACHE, else $XDG_CACHE_HOME/rtlynx/tune.txt, else ~/.cache/rtlynx/tune.txt.
  /// Throws Error if none of the variables is set.
  static std::filesystem::path default_path();

  /// A missing file is an empty cache. Throws Error, naming the line, for anything but what save()
  /// writes.
  static TuneCache load(const std::filesystem::path& path);

  /// Writes a file that replaces the old one when it is complete; makes its folder. Throws Error.
  void save(const std::filesystem::path& path) const;

  /// Adds or replaces. Throws Error for a row that cannot be: a shape that the kernels do not take,
  /// a configuration that the device lacks, a name of a GPU with '|' or control characters.
  void insert(std::string_view gpu, const DeviceTraits& device, const Gemm24Shape& shape,
              const TunedGemm24& fastest);

  std::optional<TunedGemm24> lookup(std::string_view gpu, const DeviceTraits& device,
                                    const Gemm24Shape& shape) const;

  std::size_t size() const { return rows_.size(); }

 private:
  std::map<std::string, TunedGemm24> rows_;  // by the first eight fields of the line
};

/// As select_gemm24 of gemm24.h; a row of the cache goes before the built-in measurements.
Gemm24Choice select_gemm24(const Gemm24Shape& shape, const DeviceTraits& device,
                           const TuneCache& cache, std::string_view gpu);

}  // namespace rtlynx::gpu
