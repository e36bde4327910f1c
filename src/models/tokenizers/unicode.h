// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace rtlynx {

/// Throws UsageError for a prompt that is not UTF-8.
void require_utf8(std::string_view prompt);

/// Text in Unicode's normalization form C. Throws Error for text that is not UTF-8.
std::string nfc(std::string_view text);

/// Each code point's lower case by itself: a capital sigma at the end of a word becomes the common
/// small sigma. `text` is UTF-8.
std::string lower_case(std::string_view text);

/// Every run of white space (the Unicode property White_Space) as one space. `text` is UTF-8.
std::string collapse_white_space(std::string_view text);

}  // namespace rtlynx
