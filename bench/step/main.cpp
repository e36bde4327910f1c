// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstring>
#include <exception>
#include "step/step_command.h"
int main(int argc, char** argv) {
  rtlynx::benchmark::StepOptions o;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--turns")) o.turns = true;
    if (!std::strcmp(argv[i], "--no-check")) o.check = false;
    if (!std::strcmp(argv[i], "--json")) o.json = argv[++i];
    if (!std::strcmp(argv[i], "--rounds")) o.rounds = std::atoi(argv[++i]);
    if (!std::strcmp(argv[i], "--variant")) o.variants.push_back(argv[++i]);
  }
  try { rtlynx::benchmark::run_step(o); } catch (const std::exception& e) { std::fprintf(stderr, "%s\n", e.what()); return 1; }
}
