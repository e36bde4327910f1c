// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/time_model.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels/gemm/select.h"

namespace rtlynx::gpu {
namespace {

constexpr int kStepRank = 32;  // low-rank columns that take the time of one step along K

double ceil_div(double value, double divisor) { return std::ceil(value / divisor); }

double token_tiles(const Gemm24Shape& shape, int tile_tokens) {
  return ceil_div(static_cast<double>(shape.tokens), tile_tokens);
}

double tiles(const Gemm24Shape& shape, int tile_tokens, int tile_outputs) {
  return token_tiles(shape, tile_tokens) *
         ceil_div(static_cast<double>(shape.outputs), tile_outputs);
}

double k_steps(const Gemm24Shape& shape) {
  return ceil_div(static_cast<double>(shape.channels), packed_tile_channels(shape.width));
}

// Groups of equal height near `best`: with a small last one all of W would be read once more for
// few tokens.
int balanced_group(const Gemm24Shape& shape, int best) {
  const double rows = token_tiles(shape, kSm90TileTokens);
  return static_cast<int>(ceil_div(rows, std::max(1.0, std::round(rows / best))));
}

const MeasuredShape* find_row(const Measurements& measured,
                              const std::function<bool(const MeasuredShape&)>& wanted) {
  const auto row = std::find_if(measured.shapes.begin(), measured.shapes.end(), wanted);
  return row == measured.shapes.end() ? nullptr : &*row;
}

bool is_product(const MeasuredShape& row, const Gemm24Shape& shape) {
  return row.tokens == shape.tokens && row.outputs == shape.outputs &&
         row.channels == shape.channels;
}

// The very rank where there are several.
const MeasuredShape* find_at_any_rank(const Gemm24Shape& shape, const Measurements& measured) {
  const MeasuredShape* exact = find_measured(shape, measured);
  if (exact != nullptr) return exact;
  return find_row(measured, [&](const MeasuredShape& row) { return is_product(row, shape); });
}

}  // namespace

double sm90_tiles(const Gemm24Shape& shape) {
  return tiles(shape, kSm90TileTokens, kSm90TileOutputs);
}

double sm90_steps(const Gemm24Shape& shape) {
  return k_steps(shape) + ceil_div(shape.rank, kStepRank);
}

TimedConfig TimeModel::fastest_sparse() const {
  const TimedConfig whole{config(/*stream_k=*/false), sparse_us(1)};
  const TimedConfig cut{config(/*stream_k=*/true), sparse_us(stream_k_slices(shape_, ctas()))};
  TimedConfig fastest = cut.us < whole.us ? cut : whole;
  fastest.us += pack_us();
  return fastest;
}

// X and what becomes of it: 2 + 1 + 1/8 bytes an element, of e4m3 2 + 1/2 + 1/8.
double TimeModel::pack_us() const {
  const double bytes_each = shape_.width == OperandWidth::k8 ? 2.625 : 3.125;
  const double elements = static_cast<double>(shape_.tokens) * static_cast<double>(shape_.channels);
  return measured_.pack_us + bytes_each * elements / 1e6 * measured_.pack_us_per_megabyte;
}

double TimeModel::dense_us() const {
  double fastest = std::numeric_limits<double>::infinity();
  for (const MeasuredDense& tile : measured_.dense) {
    const double channels = k_steps(shape_) * packed_tile_channels(shape_.width);
    const double operations = 2.0 * tile.tile_tokens * tile.tile_outputs * channels;
    const double wave_us = operations / (tile.tflops * 1e6 / measured_.multiprocessors);
    const double waves = tiles(shape_, tile.tile_tokens, tile.tile_outputs) / multiprocessors_;
    fastest = std::min(fastest, total_us((waves < 1 ? waves : std::ceil(waves)) * wave_us));
  }
  return fastest;
}

Gemm24Config TimeModel::config(bool stream_k) const {
  return {.path = Gemm24Config::Path::sm90,
          .tile_tokens = kSm90TileTokens,
          .tile_outputs = kSm90TileOutputs,
          .cluster = cluster(),
          .group_tiles = balanced_group(shape_, measured_.group_tiles),
          .stream_k = stream_k};
}

int TimeModel::cluster() const { return std::min(measured_.cluster, multiprocessors_); }

int TimeModel::ctas() const { return sm90_ctas(multiprocessors_, cluster()); }

// With the tiles of the last wave cut into `slices`.
double TimeModel::sparse_us(int slices) const {
  const double steps = sm90_steps(shape_);
  const double waves = sm90_tiles(shape_) / ctas();
  if (slices == 1) return total_us(std::ceil(waves) * tile_us(steps));
  return total_us(std::floor(waves) * tile_us(steps) + tile_us(ceil_div(steps, slices)) +
                  measured_.fixup_us);
}

double TimeModel::tile_us(double steps) const {
  return steps * measured_.step_us + measured_.tile_us;
}

// Nothing is faster than reading W and writing Y.
double TimeModel::total_us(double busy_us) const {
  constexpr double kElementBytes = 2;
  const double bytes = kElementBytes * static_cast<double>(shape_.outputs) *
                       (static_cast<double>(shape_.channels) + static_cast<double>(shape_.tokens));
  const double memory_us = bytes / (measured_.terabytes_per_second * 1e6);
  return measured_.launch_us + std::max(busy_us, memory_us);
}

const MeasuredShape* find_measured(const Gemm24Shape& shape, const Measurements& measured) {
  if (shape.width != OperandWidth::k16) return nullptr;  // rows are of 16-bit products
  return find_row(measured, [&](const MeasuredShape& row) {
    return is_product(row, shape) && row.rank == shape.rank;
  });
}

LinearTimes linear_times(const Gemm24Shape& shape, const Measurements& measured) {
  const DeviceTraits device{.compute_capability = measured.compute_capability,
                            .multiprocessors = measured.multiprocessors,
                            .shared_bytes = kSm90SharedBytes};
  const std::optional<Gemm24Choice> refused = refuse_gemm24(shape, device);
  const MeasuredShape* known = find_at_any_rank(shape, measured);
  const TimeModel model(shape, measured.multiprocessors, measured);
  LinearTimes times{.dense_us = known != nullptr ? known->dense_us : model.dense_us(),
                    .sparse_us = {},
                    .pack_us = model.pack_us(),
                    .source = known != nullptr ? "measured" : "estimated"};
  if (refused) {
    times.source = refused->reason;
  } else if (known == nullptr && shape.tokens < measured.least_tokens) {
    times.source = "fewer than " + std::to_string(measured.least_tokens) + " tokens";
  } else {
    times.sparse_us = model.fastest_sparse().us;
  }
  if (known == nullptr || !times.sparse_us) return times;
  if (known->rank == shape.rank) {
    times.sparse_us = known->sparse_us;
    return times;
  }
  Gemm24Shape of_row = shape;
  of_row.rank = known->rank;
  const TimeModel row_model(of_row, measured.multiprocessors, measured);
  times.sparse_us = known->sparse_us * *times.sparse_us / row_model.fastest_sparse().us;
  times.source = "measured at rank " + std::to_string(known->rank);
  return times;
}

}  // namespace rtlynx::gpu
