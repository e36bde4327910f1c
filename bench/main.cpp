// SPDX-License-Identifier: Apache-2.0
// `rtlynx bench` on a GPU for those who build without torch.
#include <exception>

#include "benchmark/command.h"
#include "io/terminal.h"
#include "rtlynx/version.h"

int main(int argc, char** argv) {
  constexpr int kFailure = 1, kBadUsage = 2;
  rtlynx::terminal::prepare();
  CLI::App app{"Times rtlynx's GPU kernels against cuBLASLt and cuSPARSELt", "rtlynx_bench"};
  app.set_version_flag("--version", std::string("rtlynx ") + rtlynx::version());
  rtlynx::benchmark::Options options;
  rtlynx::benchmark::add_options(app, options);
  try {
    app.parse(argc, argv);
    rtlynx::benchmark::run_command(options);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kBadUsage;
  } catch (const std::exception& error) {
    rtlynx::terminal::say(error.what(), "rtlynx_bench");
    return kFailure;
  }
  return rtlynx::terminal::everything_shown() ? 0 : kFailure;
}
