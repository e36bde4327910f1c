// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mini/mini_pipeline.h"

namespace rtlynx {

/// Seconds that one denoising step of one picture of the trained size takes here and now, dense,
/// with guidance or, at 1, without: measured by a few steps of a batch as pictures_at_once(batch)
/// draws it.
double seconds_per_step(Pipeline& pipeline, int batch, double guidance);

/// The same where `pictures` are drawn at once, also on a device that draws one after the other.
double seconds_per_step_at_once(Pipeline& pipeline, int pictures, double guidance);

}  // namespace rtlynx
