// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace rtlynx {

/// Bytes as characters, whatever they are.
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Takes the first code point off `rest`; nothing, and `rest` unchanged, when it is not valid UTF-8
/// or is empty. Overlong forms, surrogates and values above U+10FFFF are not valid.
std::optional<char32_t> take_code_point(std::string_view& rest);

bool is_utf8(std::string_view text);

/// `text` as an error message may show it: what a terminal would obey and bytes that are not UTF-8
/// become \xNN, and long text is cut. Names in a file are not to be trusted.
std::string printable(std::string_view text);

/// The same without a limit, and line ends and tabs stay: all that is written to a terminal.
std::string terminal_text(std::string_view text);

/// A path as text: valid UTF-8, whatever its bytes, so that JSON and PNG can hold it. Bytes that
/// are no UTF-8 become \xNN.
std::string path_text(const std::filesystem::path& path);

/// printable(text) in double quotes.
std::string in_quotes(std::string_view text);

/// True for a name that stays in its folder: not empty, ".", ".." or with a separator in it.
bool is_plain_file_name(std::string_view name);

}  // namespace rtlynx
