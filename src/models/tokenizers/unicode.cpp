// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/error.h"
#include "io/text.h"

namespace rtlynx {
namespace {

constexpr char32_t kCapitalDottedI = 0x130;
constexpr std::string_view kSmallDottedI = "i\u0307";

void append(std::string& text, char32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t size =
      utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

}  // namespace

void require_utf8(std::string_view prompt) {
  std::string_view rest = prompt;
  while (!rest.empty()) {
    if (take_code_point(rest)) continue;
    throw UsageError("prompt: required UTF-8 text, got an invalid byte at position " +
                     std::to_string(prompt.size() - rest.size()) + " of " + in_quotes(prompt));
  }
}

std::string nfc(std::string_view text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) fail("normalization", "UTF-8 text", utf8proc_errmsg(size));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(size)};
}

std::string lower_case(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (const auto c = take_code_point(text)) {
    // The one capital whose lower case is two code points.
    if (*c == kCapitalDottedI) {
      result += kSmallDottedI;
    } else {
      append(result, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(*c))));
    }
  }
  return result;
}

std::string collapse_white_space(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  bool in_run = false;
  while (const auto c = take_code_point(text)) {
    const bool white = is_white_space(*c);
    if (!white) {
      append(result, *c);
    } else if (!in_run) {
      result += ' ';
    }
    in_run = white;
  }
  return result;
}

}  // namespace rtlynx
