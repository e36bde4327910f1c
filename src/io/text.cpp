// SPDX-License-Identifier: Apache-2.0
#include "io/text.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>

namespace rtlynx {
namespace {

constexpr std::size_t kLongestShown = 200;

bool is_control(char32_t c) { return c < 0x20 || (c >= 0x7f && c < 0xa0); }

// Takes one character off `rest`; `refused` ones and bytes that are no UTF-8 become \xNN.
template <typename Refused>
void append_escaped(std::string& shown, std::string_view& rest, const Refused& refused) {
  const std::string_view before = rest;
  const auto c = take_code_point(rest);
  if (!c) rest.remove_prefix(1);
  const std::string_view taken = before.substr(0, before.size() - rest.size());
  if (c && !refused(*c)) {
    shown.append(taken);
    return;
  }
  for (const char byte : taken) shown += fmt::format("\\x{:02x}", std::uint8_t(byte));
}

}  // namespace

std::optional<char32_t> take_code_point(std::string_view& rest) {
  if (rest.empty()) return std::nullopt;
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(rest[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) {
    rest.remove_prefix(1);
    return lead;
  }
  if (lead < 0xc2 || lead > 0xf4) return std::nullopt;
  const std::size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (rest.size() < length) return std::nullopt;
  char32_t c = lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return std::nullopt;
    c = (c << 6) | (byte(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && c < 0x800) || (length == 4 && c < 0x10000);
  const bool surrogate = c >= 0xd800 && c < 0xe000;
  if (overlong || surrogate || c > 0x10ffff) return std::nullopt;
  rest.remove_prefix(length);
  return c;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    if (!take_code_point(text)) return false;
  }
  return true;
}

std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    if (shown.size() >= kLongestShown) return shown + "...";
    append_escaped(shown, text, is_control);
  }
  return shown;
}

std::string terminal_text(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    append_escaped(shown, text, [](char32_t c) { return is_control(c) && c != '\n' && c != '\t'; });
  }
  return shown;
}

std::string path_text(const std::filesystem::path& path) {
  std::string shown;
  std::string_view rest = path.native();
  while (!rest.empty()) append_escaped(shown, rest, [](char32_t) { return false; });
  return shown;
}

std::string in_quotes(std::string_view text) { return '"' + printable(text) + '"'; }

bool is_plain_file_name(std::string_view name) {
  using namespace std::string_view_literals;
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of("/\\\0"sv) == std::string_view::npos;
}

}  // namespace rtlynx
