// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/parts.h"

#include "base/error.h"

namespace rtlynx {

void PartsFit::equal(const char* what, std::int64_t required, std::int64_t arrived) const {
  if (required == arrived) return;
  fail(where_, std::string(what) + " " + std::to_string(required), std::to_string(arrived));
}

void PartsFit::at_least(const char* what, std::int64_t required, const char* reason,
                        std::int64_t arrived) const {
  if (arrived >= required) return;
  fail(where_, std::string(what) + " to be at least " + std::to_string(required) + ", " + reason,
       std::to_string(arrived));
}

}  // namespace rtlynx
