// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "io/text.h"

namespace rtlynx::fuzz {

inline void promise(bool kept, const char* what) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

/// Runs `parse`, which may throw an Error with a message fit to be printed.
template <typename Parse>
void expect_error_or_success(Parse&& parse) {
  try {
    parse();
  } catch (const Error& error) {
    promise(is_utf8(error.what()), "an error message is UTF-8");
  }
}

}  // namespace rtlynx::fuzz
