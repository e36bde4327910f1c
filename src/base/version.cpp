// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/version.h"

#include <string_view>

// RTLYNX_PROJECT_* come from project(VERSION) in the top-level CMakeLists.txt.
static_assert(std::string_view(RTLYNX_VERSION_STRING) == RTLYNX_PROJECT_VERSION &&
                  RTLYNX_VERSION == RTLYNX_PROJECT_VERSION_NUMBER,
              "include/rtlynx/version.h and project(VERSION) in CMakeLists.txt must agree");

namespace rtlynx {

const char* version() noexcept { return RTLYNX_VERSION_STRING; }

}  // namespace rtlynx
