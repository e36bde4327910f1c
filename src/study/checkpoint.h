// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "study/train.h"

namespace rtlynx {

/// Writes the optimizer's state and the options that make a run what it is, as one safetensors
/// file, under its name only when complete.
void save_checkpoint(const TrainOptions& options, const AdamW& optimizer);

/// Restores the state saved by save_checkpoint, if options.checkpoint exists. Throws Error when the
/// file belongs to a run with other options, naming the first that differs.
void load_checkpoint(const TrainOptions& options, AdamW& optimizer);

}  // namespace rtlynx
