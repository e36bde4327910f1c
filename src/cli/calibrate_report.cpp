// SPDX-License-Identifier: Apache-2.0
#include "cli/calibrate_report.h"

#include <fmt/format.h>

#include <cmath>

#include "io/terminal.h"

namespace rtlynx::cli {

void print_layers(const CalibrateResult& result) {
  terminal::print("{:44} {:>5} {:>5} {:>9} {:>9} {:>9}\n", "layer", "in", "out", "without", "with",
                  "limit");
  for (const CalibratedLayer& layer : result.layers) {
    terminal::print("{:44} {:5} {:5} {:9.4f} {:9.4f} {:9.4f}\n", layer.name, layer.in_features,
                    layer.out_features, layer.solution.error_before, layer.solution.error,
                    std::sqrt(layer.solution.unrecoverable));
  }
  terminal::print(
      "Relative errors of the outputs over the calibration's tokens, without and with\n"
      "compensation; limit: what refit and low rank together cannot get below.\n");
}

void print_choices(const LayerChoices& choices) {
  const std::string_view measure = to_string(choices.measure);
  terminal::print("Cost: {} ({}).\n", measure, choices.measure_reason);
  terminal::print("{:44} {:15} {:>8} {:>8}  {}\n", "layer, best bargain first", "does", "error",
                  "saved", "why");
  for (const LayerChoice& layer : choices.layers) {
    terminal::print("{:44} {:15} {:8.4f} {:7.2f}%  {}\n", layer.name, layer.method,
                    layer.velocity_error, 100 * layer.saved, layer.why);
  }
  terminal::print(
      "error: of the velocity, relative, with this layer alone so, or not dense; saved: of the "
      "cost\n"
      "of all Linears. Together: error {:.4f} (root of the sum of squares {:.4f}), {:.1f} % of the "
      "{}.\n",
      choices.velocity_error, choices.summed_error, 100 * choices.relative_cost, measure);
}

}  // namespace rtlynx::cli
