// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "study/calibrate.h"
#include "study/drawn_steps.h"

namespace rtlynx {

/// How a transformer's compensation is made of saved embeddings. Of `calibrate` the options of the
/// run, of shards and of rivals are not looked at.
struct BlockCalibrateOptions {
  CalibrateOptions calibrate;
  DrawingRun run;
  std::filesystem::path kept;  ///< a folder for finished work, gone on from; none: nothing is kept
};

/// Where the work stands, in passes of the transformer or of a block.
struct BlockCalibrateProgress {
  std::string stage;  ///< "drawing", or the block at work
  std::int64_t finished = 0;
  std::int64_t all = 0;
};

/// Called after every pass. Returns false to stop.
using BlockCalibrateCallback = std::function<bool(const BlockCalibrateProgress&)>;

/// What is known before the weights are read, of a model on the meta device: throws UsageError for
/// an unknown recipe, and a rank or transform that a layer cannot have, and Error unless the sums
/// of one pass fit beside the model's weights of type `options` on its device.
void check_block_calibration(BlockwiseTransformer& planned, const torch::TensorOptions& options,
                             const BlockCalibrateOptions& calibration);

/// Draws the prompts dense, then goes through the transformer block by block: what each pass of the
/// drawing gives a block lies on the host; the block reads it, the second moments of its inputs are
/// summed and its layers solved, and what it makes takes the place of what it read.
///
/// Sums take calibrate.memory bytes at a time, or those of one input where that alone is larger; a
/// block whose inputs do not fit is run again for the rest. Beside them there are the weights and
/// one block's activations on the device, and on the host all passes' states: for FLUX.1 28 MB a
/// pass at 1024 x 1024. Leaves the model dense. If stopped, `finished` is false, and a call with
/// the same options goes on from the last finished block that `kept` holds, with the same bits at
/// the end; its files are gone behind the last. Throws Error if they belong to another calibration.
CalibrateResult calibrate_blocks(BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
                                 const SchedulerConfig& scheduler,
                                 const BlockCalibrateOptions& options,
                                 const BlockCalibrateCallback& on_pass = {});

}  // namespace rtlynx
