// SPDX-License-Identifier: Apache-2.0
#pragma once

// rtlynx::Error, what every function of this library throws. An installation has the definition
// itself in this place.
#include "base/error.h"
