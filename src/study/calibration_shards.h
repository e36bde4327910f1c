// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "study/calibrate.h"

namespace rtlynx {

/// How far a process came with its shard, or several together.
enum class ShardProgress {
  stopped,       ///< early: the same call goes on
  inputs_ready,  ///< the inputs are summed: transforms are made of the sums of all shards
  finished,
};

/// Draws the prompts of options.shard and keeps their sums in options.statistics. A transform that
/// depends on the inputs takes two rounds: in the first, inputs are summed; `merged_inputs`, what
/// merge_shards made of all shards, begins the second. Batches are those of one process, so that
/// what a batch adds is the same to the bit.
///
/// Throws UsageError without a shard or a file, Error for `merged_inputs` of another calibration or
/// of a first round that is not finished.
ShardProgress collect_shard(Pipeline& pipeline, const CalibrateOptions& options,
                            const std::filesystem::path& merged_inputs = {},
                            const CalibrateCallback& on_step = {});

/// Adds up the sums of all shards, in the order of their numbers, whatever the order of `files`,
/// and writes them to options.statistics as the statistics of one process; calibrate() goes on from
/// there. fp64 sums in another order than one process has: equal to about 1e-15 of their size.
/// `inputs_ready`: of a first round, from which a second begins. Holds two shards' sums at a time.
///
/// Throws Error, before the sum is written, for a file that is no shard of this calibration
/// (another model, revision or setting, named), for one shard twice, a missing, an unfinished one,
/// or one of another round, and for second rounds of different inputs.
ShardProgress merge_shards(const Pipeline& pipeline, const CalibrateOptions& options,
                           const std::vector<std::filesystem::path>& files);

}  // namespace rtlynx
