// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "study/calibrate.h"
#include "study/choose_layers.h"

namespace rtlynx::cli {

/// The layers' errors, as a table on standard output.
void print_layers(const CalibrateResult& result);

/// What every layer does and why, likewise.
void print_choices(const LayerChoices& choices);

}  // namespace rtlynx::cli
