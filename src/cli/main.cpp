// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>  // __GLIBC__
#include <exception>
#include <sstream>
#include <string>

#include "base/error.h"
#include "cli/commands.h"
#include "io/terminal.h"
#include "options/given.h"
#include "rtlynx/version.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

constexpr int kFailure = 1;
constexpr int kBadUsage = 2;

int report(const std::exception& error, int code) {
  rtlynx::terminal::say(rtlynx::cli::message_of(error));
  return code;
}

// CLI11 writes help to its first stream and complaints to its second.
int finish_parsing(const CLI::App& app, const CLI::ParseError& error) {
  std::ostringstream help, complaint;
  const bool helped = app.exit(error, help, complaint) == 0;
  rtlynx::terminal::show(help.str());
  if (helped) return 0;
  std::string text = complaint.str();
  while (text.ends_with('\n')) text.pop_back();
  rtlynx::terminal::say(text);
  return kBadUsage;
}

int run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return finish_parsing(app, error);
  } catch (const rtlynx::UsageError& error) {
    return report(error, kBadUsage);
  } catch (const std::exception& error) {
    return report(error, kFailure);
  }
  return 0;
}

// Every operator on the CPU allocates its result. Beyond glibc's thresholds each would be memory
// that the kernel clears page by page, a tenth of the time of a step of lynx-mini.
void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  rtlynx::terminal::prepare();
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
  rtlynx::options::refuse_empty_values(app);

  const int code = run(app, argc, argv);
  // What did not reach a full disk or a closed pipe is a failure.
  if (code != 0 || rtlynx::terminal::everything_shown()) return code;
  rtlynx::terminal::say("cannot write to standard output");
  return kFailure;
}
