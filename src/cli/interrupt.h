// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <map>

namespace rtlynx::cli {

/// While this lives Ctrl-C, SIGTERM and SIGHUP, which a lost terminal sends, only set a flag, so
/// that long work can end in good order; a second one kills. A SIGHUP that nohup ignores stays so.
/// One at a time.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  bool interrupted() const;

 private:
  std::map<int, struct sigaction> before_;
};

}  // namespace rtlynx::cli
