// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.h"

#include <atomic>
#include <csignal>

namespace rtlynx::cli {
namespace {

std::atomic<bool> signalled{false};

void on_signal(int number) {
  signalled = true;
  std::signal(number, SIG_DFL);
}

}  // namespace

InterruptScope::InterruptScope() {
  signalled = false;
  for (const int number : {SIGINT, SIGTERM}) std::signal(number, on_signal);
}

InterruptScope::~InterruptScope() {
  for (const int number : {SIGINT, SIGTERM}) std::signal(number, SIG_DFL);
}

bool InterruptScope::interrupted() const { return signalled; }

}  // namespace rtlynx::cli
