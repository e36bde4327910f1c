// SPDX-License-Identifier: Apache-2.0
#pragma once

#define RTLYNX_VERSION_MAJOR 0
#define RTLYNX_VERSION_MINOR 1
#define RTLYNX_VERSION_PATCH 0
#define RTLYNX_VERSION_STRING "0.1.0"

/// For comparisons: 10000 * major + 100 * minor + patch.
#define RTLYNX_VERSION \
  (RTLYNX_VERSION_MAJOR * 10000 + RTLYNX_VERSION_MINOR * 100 + RTLYNX_VERSION_PATCH)

namespace rtlynx {

/// The version of the library that is linked, "major.minor.patch". The macros above are the version
/// of the headers that were compiled against; the two differ when an installation is mixed.
const char* version() noexcept;

}  // namespace rtlynx
