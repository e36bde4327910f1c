// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

/// All that a program says to people and to pipes. No function here throws or ends the process:
/// work must not be lost because nobody can read about it. What a terminal would obey is escaped.
namespace rtlynx::terminal {

/// Before anything is written: signals about broken output become errors of the write that caused
/// them, and closed standard descriptors are taken, so that no file that is opened later gets one.
void prepare();

/// Results, to standard output, in front of the status line.
void show(std::string_view text);
/// JSON stays JSON: what a terminal would obey is escaped in JSON's way.
void show_json(const nlohmann::ordered_json& json);
template <typename... Arguments>
void print(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  show(fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// False if any result did not arrive, so far.
bool everything_shown();

/// A line about what happens, to standard error, in front of the status line. `program` begins it.
void say(std::string_view text, std::string_view program = "rtlynx");

/// Whether standard error is a terminal that understands escape codes: not with TERM unset, empty
/// or dumb.
bool has_status();
/// One line on standard error in place of the last status; nothing without has_status(). Results
/// and messages erase it; the next status brings it back.
void draw_status(std::string_view line);
void erase_status();
/// Leaves the status to be read and begins a new line.
void keep_status();

}  // namespace rtlynx::terminal
