// SPDX-License-Identifier: Apache-2.0
#include "cli/prompts.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/terminal.h"
#include "io/text.h"

namespace rtlynx::cli {
namespace {

using namespace std::string_view_literals;

constexpr std::size_t kMaxBytes = std::size_t{16} << 20;
constexpr std::string_view kUtf8Mark = "\xef\xbb\xbf";

void append_utf8(std::string& text, char32_t c) {
  const auto byte = [&](char32_t value) { text.push_back(static_cast<char>(value)); };
  const auto tail = [&](int shift) { byte(0x80 | ((c >> shift) & 0x3f)); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xc0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    byte(0xe0 | c >> 12);
    tail(6);
    tail(0);
  } else {
    byte(0xf0 | c >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

// `bytes` without its mark; a unit that stands for no character becomes a byte that is no UTF-8.
std::string utf8_from_utf16(std::string_view bytes, bool big_endian) {
  const auto unit = [&](std::size_t at) -> char32_t {
    const auto first = static_cast<unsigned char>(bytes[at]);
    const auto second = static_cast<unsigned char>(bytes[at + 1]);
    return big_endian ? first << 8 | second : second << 8 | first;
  };
  constexpr char kInvalid = '\xff';
  std::string text;
  std::size_t at = 0;
  for (; at + 1 < bytes.size(); at += 2) {
    const char32_t c = unit(at);
    const bool pair = c >= 0xd800 && c < 0xdc00 && at + 3 < bytes.size() &&
                      unit(at + 2) >= 0xdc00 && unit(at + 2) < 0xe000;
    if (pair) {
      append_utf8(text, 0x10000 + ((c - 0xd800) << 10) + (unit(at + 2) - 0xdc00));
      at += 2;
    } else if (c >= 0xd800 && c < 0xe000) {
      text.push_back(kInvalid);
    } else {
      append_utf8(text, c);
    }
  }
  if (at < bytes.size()) text.push_back(kInvalid);
  return text;
}

std::string decode(std::string_view bytes) {
  if (bytes.starts_with(kUtf8Mark)) return std::string(bytes.substr(kUtf8Mark.size()));
  if (bytes.starts_with("\xff\xfe"sv)) return utf8_from_utf16(bytes.substr(2), false);
  if (bytes.starts_with("\xfe\xff"sv)) return utf8_from_utf16(bytes.substr(2), true);
  return std::string(bytes);
}

// Takes a line and its end, LF, CRLF or CR, off `rest`.
std::string_view take_line(std::string_view& rest) {
  const std::size_t end = std::min(rest.find_first_of("\r\n"), rest.size());
  const std::string_view line = rest.substr(0, end);
  const bool both = rest.substr(end).starts_with("\r\n");
  rest.remove_prefix(std::min(rest.size(), end + (both ? 2 : 1)));
  return line;
}

// What is no text in the line, and where.
std::optional<std::string> fault_in(std::string_view line) {
  for (std::size_t character = 1; !line.empty(); ++character) {
    const std::string_view before = line;
    const auto c = take_code_point(line);
    const std::string place = fmt::format(" at character {}", character);
    if (!c) {
      const bool nul_near = before.find('\0') != std::string_view::npos;
      return "the byte " + printable(before.substr(0, 1)) + place +
             (nul_near ? "; UTF-16 needs a byte order mark" : "");
    }
    const bool control = (*c < 0x20 && *c != '\t') || (*c >= 0x7f && *c < 0xa0);
    if (!control) continue;
    return "the control character " + printable(before.substr(0, before.size() - line.size())) +
           place + (*c == 0 ? "; UTF-16 needs a byte order mark" : "");
  }
  return std::nullopt;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

bool begins_json_object(std::string_view line) {
  const auto skip_spaces = [&] {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  };
  skip_spaces();
  if (!line.starts_with('{')) return false;
  line.remove_prefix(1);
  skip_spaces();
  return line.starts_with('"');
}

// Throws UsageError for text with control characters other than tabs and line ends, which separate
// words as spaces do.
void check_text(std::string_view text, const std::string& where) {
  while (!text.empty()) {
    if (const auto fault = fault_in(take_line(text))) {
      throw UsageError(where + ": required text in UTF-8, got " + *fault);
    }
  }
}

std::uint64_t seed_in(const nlohmann::json& value, const std::string& where) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  throw UsageError(where + ", seed: required a whole number from 0 to 2^64 - 1, got " +
                   printable_json(value));
}

Prompt json_prompt(std::string_view line, const std::string& where) {
  const nlohmann::json object = parse_json(line, where);
  Prompt prompt{
      .text = json_string(object, "prompt", where), .where = where, .seed = {}, .size = {}};
  for (const auto& [key, value] : object.items()) {
    if (key == "seed") {
      prompt.seed = seed_in(value, where);
    } else if (key == "size") {
      prompt.size = parse_size(json_string(object, "size", where), where + ", size");
    } else if (key != "prompt") {
      throw UsageError(where + ": required the keys prompt, seed and size, got " + in_quotes(key));
    }
  }
  check_text(prompt.text, where);
  return prompt;
}

// What is wrong with a prompts file is what was asked for, and no failure.
Prompt parse_json_prompt(std::string_view line, const std::string& where) {
  try {
    return json_prompt(line, where);
  } catch (const Error& error) {
    std::string message = error.what();
    // `where` has the line already.
    const std::string first_line = where + ", line 1, column";
    if (message.starts_with(first_line)) {
      message.replace(0, first_line.size(), where + ", column");
    }
    throw UsageError(message);
  }
}

}  // namespace

std::vector<Prompt> prompts_of_options(const std::vector<std::string>& texts) {
  std::vector<Prompt> prompts;
  for (const std::string& text : texts) {
    const std::string where =
        texts.size() == 1 ? "--prompt" : fmt::format("--prompt {}", prompts.size() + 1);
    check_text(text, where);
    prompts.push_back({.text = text, .where = where, .seed = {}, .size = {}});
  }
  return prompts;
}

std::vector<Prompt> parse_prompts(std::string_view bytes, const std::string& where) {
  const std::string text = decode(bytes);
  std::vector<Prompt> prompts;
  std::optional<bool> is_json;
  std::string_view rest = text;
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = take_line(rest);
    const std::string place = fmt::format("{}, line {}", where, number);
    if (const auto fault = fault_in(line)) {
      throw UsageError(place + ": required text in UTF-8, got " + *fault);
    }
    if (is_blank(line)) continue;
    if (!is_json) is_json = begins_json_object(line);
    prompts.push_back(*is_json ? parse_json_prompt(line, place)
                               : Prompt{std::string(line), place, {}, {}});
  }
  return prompts;
}

std::vector<Prompt> read_prompts(const std::filesystem::path& path) {
  const std::string where = path == "-" ? "standard input" : printable(path.string());
  std::vector<Prompt> prompts = parse_prompts(read_stream(path, kMaxBytes), where);
  if (prompts.empty()) throw UsageError(where + ": required a prompt on some line, got none");
  return prompts;
}

void check_prompts(const std::vector<Prompt>& prompts, const TextEncoder& encoder) {
  for (const Prompt& prompt : prompts) {
    try {
      encoder->encode({prompt.text});
    } catch (const UsageError& error) {
      throw UsageError(prompt.where + ", " + error.what());
    }
  }
}

void say_what_is_cut(const TextToImageModel& model, const std::set<std::string>& prompts) {
  for (const std::string& prompt : prompts) {
    for (const std::string& sentence : model.warnings(prompt)) {
      terminal::say(in_quotes(prompt) + ": " + sentence);
    }
  }
}

}  // namespace rtlynx::cli
