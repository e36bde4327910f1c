// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rtlynx::cli {

/// While this lives Ctrl-C and SIGTERM only set a flag, so that long work can end in good order; a
/// second one kills. One at a time.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  bool interrupted() const;
};

}  // namespace rtlynx::cli
