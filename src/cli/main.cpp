// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "base/error.h"
#include "cli/commands.h"
#include "rtlynx/version.h"

namespace {

constexpr int kFailure = 1;
constexpr int kBadUsage = 2;

int report(const std::exception& error, int code) {
  fmt::print(stderr, "rtlynx: {}\n", rtlynx::cli::message_of(error));
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Diffusion Transformers with online 2:4 activation sparsity", "rtlynx"};
  app.set_version_flag("--version", std::string("rtlynx ") + rtlynx::version());
  app.require_subcommand(1);
  app.footer("Example:\n  rtlynx generate --compare --prompt \"a large red circle top left\"");
  rtlynx::cli::add_generate(app);
  rtlynx::cli::add_analyze(app);
  rtlynx::cli::add_evaluate(app);
  rtlynx::cli::add_report(app);
  rtlynx::cli::add_calibrate(app);
  rtlynx::cli::add_train_mini(app);
  rtlynx::cli::add_bench(app);
  rtlynx::cli::add_info(app);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kBadUsage;
  } catch (const rtlynx::UsageError& error) {
    return report(error, kBadUsage);
  } catch (const std::exception& error) {
    return report(error, kFailure);
  }
  // A report that did not reach a full disk or a closed pipe is a failure.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    fmt::print(stderr, "rtlynx: cannot write to standard output\n");
    return kFailure;
  }
  return 0;
}
