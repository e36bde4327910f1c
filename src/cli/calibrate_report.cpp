// SPDX-License-Identifier: Apache-2.0
#include "cli/calibrate_report.h"

#include <fmt/format.h>

#include <cmath>

namespace rtlynx::cli {

void print_layers(const CalibrateResult& result) {
  fmt::print("{:44} {:>5} {:>5} {:>9} {:>9} {:>9}\n", "layer", "in", "out", "without", "with",
             "limit");
  for (const CalibratedLayer& layer : result.layers) {
    fmt::print("{:44} {:5} {:5} {:9.4f} {:9.4f} {:9.4f}\n", layer.name, layer.in_features,
               layer.out_features, layer.solution.error_before, layer.solution.error,
               std::sqrt(layer.solution.unrecoverable));
  }
  fmt::print(
      "Relative errors of the outputs over the calibration's tokens, without and with\n"
      "compensation; limit: what refit and low rank together cannot get below.\n");
}

void print_choices(const LayerChoices& choices) {
  fmt::print("{:44} {:>15} {:>9}\n", "layer, best bargain first", "velocity error", "saved");
  for (const LayerChoice& layer : choices.layers) {
    fmt::print("{:44} {:15.4f} {:8.2f}%  {}\n", layer.name, layer.velocity_error, 100 * layer.saved,
               layer.chosen ? "sparse" : "dense");
  }
  fmt::print(
      "Relative error of the velocity with this layer alone sparse, and the share of all Linears'\n"
      "multiplications that it saves. Together: error {:.4f}, {:.1f} % of the multiplications.\n",
      choices.velocity_error, 100 * choices.relative_flops);
}

}  // namespace rtlynx::cli
