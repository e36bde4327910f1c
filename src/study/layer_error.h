// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/util/Exception.h>

#include <string>

#include "base/error.h"

namespace rtlynx {

/// solve(), of which errors name the layer.
template <typename Solve>
auto of_layer(const std::string& layer, const Solve& solve) -> decltype(solve()) {
  try {
    return solve();
  } catch (const UsageError&) {
    throw;  // names it where that matters
  } catch (const Error& error) {
    throw Error("layer " + layer + ": " + error.what());
  } catch (const c10::Error& error) {
    throw Error("layer " + layer + ": " + error.what_without_backtrace());
  }
}

}  // namespace rtlynx
