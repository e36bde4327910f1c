// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.h"

#include <atomic>

namespace rtlynx::cli {
namespace {

std::atomic<bool> signalled{false};

void on_signal(int) { signalled = true; }

}  // namespace

InterruptScope::InterruptScope() {
  signalled = false;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action {};
    action.sa_handler = on_signal;
    // The second one finds the default. System calls at work go on.
    action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
    struct sigaction before {};
    sigaction(number, nullptr, &before);
    if (number == SIGHUP && before.sa_handler == SIG_IGN) continue;  // nohup
    sigaction(number, &action, nullptr);
    before_.emplace(number, before);
  }
}

InterruptScope::~InterruptScope() {
  for (const auto& [number, before] : before_) sigaction(number, &before, nullptr);
}

bool InterruptScope::interrupted() const { return signalled; }

}  // namespace rtlynx::cli
