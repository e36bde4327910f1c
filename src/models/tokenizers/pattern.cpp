// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

struct Release {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};

}  // namespace

struct Pattern::Code {
  std::unique_ptr<pcre2_code, Release> compiled;
};

Pattern::Pattern(std::string_view expression) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled = pcre2_compile(units(expression), expression.size(), PCRE2_UTF | PCRE2_UCP,
                                       &error, &offset, nullptr);
  if (compiled == nullptr) {
    fail("pattern", "a regular expression",
         message_of(error) + " at byte " + std::to_string(offset) + " of " +
             std::string(expression));
  }
  code_ = std::make_unique<Code>();
  code_->compiled.reset(compiled);
}

Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;

std::vector<std::string_view> Pattern::matches(std::string_view text) const {
  const pcre2_code* compiled = code_->compiled.get();
  const std::unique_ptr<pcre2_match_data, Release> match(
      pcre2_match_data_create_from_pattern(compiled, nullptr));
  std::vector<std::string_view> found;
  std::size_t at = 0;
  while (at < text.size()) {
    const int count =
        pcre2_match(compiled, units(text), text.size(), at, PCRE2_NOTEMPTY, match.get(), nullptr);
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) fail("pattern", "text that can be searched", message_of(count));
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
    found.push_back(text.substr(range[0], range[1] - range[0]));
    at = range[1];
  }
  return found;
}

}  // namespace rtlynx
