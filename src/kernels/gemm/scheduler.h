// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/host_device.h"

/// Which CTA of a persistent grid computes which part of which output tile, and in what order.
namespace rtlynx::gpu {

/// The tiles of a product: rows of the sparse operand x rows of the dense one. `group` >= 1 sparse
/// tiles walk along the dense ones together.
struct TileGrid {
  int sparse_tiles = 0;
  int dense_tiles = 0;
  int group = 1;

  RTLYNX_HOST_DEVICE constexpr int tiles() const { return sparse_tiles * dense_tiles; }
};

struct TilePosition {
  int sparse_tile;
  int dense_tile;
  friend constexpr bool operator==(const TilePosition&, const TilePosition&) = default;
};

/// Where tile 0 .. tiles() - 1 lies: all sparse tiles of a group at one dense tile before the next,
/// so that tiles in flight together share the dense operand in L2. The last group may be smaller.
RTLYNX_HOST_DEVICE constexpr TilePosition position(const TileGrid& grid, int tile) {
  const int whole_group = grid.group * grid.dense_tiles;
  const int group = tile / whole_group;
  const int inside = tile - group * whole_group;
  const int first = group * grid.group;
  const int left = grid.sparse_tiles - first;
  const int height = left < grid.group ? left : grid.group;
  const int column = inside / height;
  return {first + inside - column * height, column};
}

/// What a CTA does next: steps [first_step, first_step + steps) along K of `tile`; 0 steps: no
/// more.
struct Work {
  int tile;
  int first_step;
  int steps;
  bool owner;  // writes Y: it has step 0, and adds what contributors() did of the tile
  bool whole;  // all the steps: no contributors
};

/// Shares begin, begin + stride, ... below end, in the order in which an owner adds them.
struct ShareRange {
  int begin;
  int end;
  int stride;
};

/// Whole tiles: CTA b computes tiles b, b + ctas, ... With stream-K, each tile of the last, ragged
/// wave is cut along K into as many equal slices as the CTAs suffice for, one to a CTA. Shares of
/// such tiles are numbered slice by slice: all CTAs of a slice walk over the same channels at the
/// same time and so share what they read in L2. Cutting all of the last two waves into equal runs
/// would leave no CTA idle, but there each would walk over other channels: measured slower.
///
/// CTA b has share ctas - 1 - b: the owner of a tile, its slice 0, waits for later shares, which
/// are those of lower block indices; they were started no later, so waiting for them cannot
/// deadlock.
class Scheduler {
 public:
  /// Where one CTA has got to; made by start().
  struct State {
    int tile;     // the next whole tile
    bool sliced;  // has its share of the tail still to do
  };

  RTLYNX_HOST_DEVICE constexpr Scheduler(const TileGrid& grid, int k_steps, int ctas, bool stream_k)
      : k_steps_(k_steps), ctas_(ctas), whole_tiles_(grid.tiles()) {
    const int ragged = grid.tiles() % ctas;
    if (!stream_k || ragged == 0) return;
    const int most = ctas / ragged;
    const int slices = most < k_steps ? most : k_steps;
    if (slices < 2) return;
    whole_tiles_ -= ragged;
    cut_tiles_ = ragged;
    slices_ = slices;
  }

  RTLYNX_HOST_DEVICE constexpr State start(int cta) const {
    return {cta, share_of_cta(cta) < cut_tiles_ * slices_};
  }

  /// The next piece of this CTA: whole tiles, then at most one slice.
  RTLYNX_HOST_DEVICE constexpr Work next(State& state) const {
    if (state.tile < whole_tiles_) {
      const int tile = state.tile;
      state.tile += ctas_;
      return {tile, 0, k_steps_, true, true};
    }
    if (!state.sliced) return {0, 0, 0, false, false};
    state.sliced = false;
    const int share = share_of_cta(state.tile % ctas_);
    const int slice = share / cut_tiles_;
    const int first = slice * k_steps_ / slices_, end = (slice + 1) * k_steps_ / slices_;
    return {whole_tiles_ + share - slice * cut_tiles_, first, end - first, slice == 0, false};
  }

  /// The shares besides the owner's that hold slices of a tile of the tail; none of another tile.
  RTLYNX_HOST_DEVICE constexpr ShareRange contributors(int tile) const {
    if (tile < whole_tiles_) return {0, 0, 1};
    return {tile - whole_tiles_ + cut_tiles_, cut_tiles_ * slices_, cut_tiles_};
  }

  RTLYNX_HOST_DEVICE constexpr int share_of_cta(int cta) const { return ctas_ - 1 - cta; }
  RTLYNX_HOST_DEVICE constexpr int cta_of_share(int share) const { return ctas_ - 1 - share; }

 private:
  int k_steps_;
  int ctas_;
  int whole_tiles_;    // tiles that one CTA computes alone; the others follow
  int cut_tiles_ = 0;  // tiles that are cut
  int slices_ = 1;     // of each
};

}  // namespace rtlynx::gpu
