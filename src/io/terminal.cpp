// SPDX-License-Identifier: Apache-2.0
#include "io/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "io/text.h"

namespace rtlynx::terminal {
namespace {

constexpr std::string_view kEraseLine = "\r\033[K";

bool status_drawn = false;
bool all_shown = true;

// Unbuffered, so that nothing is left to fail later. False once a byte cannot be written.
bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(descriptor, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN && descriptor == STDOUT_FILENO) {  // made so by its other user
      pollfd writable{.fd = descriptor, .events = POLLOUT, .revents = 0};
      ::poll(&writable, 1, /*timeout=*/-1);
      continue;
    }
    if (put < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

void tell(std::string_view text) { static_cast<void>(write_all(STDERR_FILENO, text)); }

void show_raw(std::string_view text) {
  erase_status();
  // After a lost piece the rest would be a report with a hole.
  all_shown = all_shown && write_all(STDOUT_FILENO, text);
}

bool is_terminal_control(char32_t c) { return c >= 0x7f && c < 0xa0; }

}  // namespace

void prepare() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // The lowest free descriptor is this one. Writing to it fails, as it did when it was closed.
    if (::fcntl(descriptor, F_GETFD) < 0) static_cast<void>(::open("/dev/null", O_RDONLY));
  }
}

void show(std::string_view text) { show_raw(terminal_text(text)); }

void show_json(const nlohmann::ordered_json& json) {
  const std::string text =
      json.dump(2, ' ', /*ensure_ascii=*/false, nlohmann::ordered_json::error_handler_t::replace);
  std::string escaped;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view before = rest;
    const char32_t c = take_code_point(rest).value_or(0);
    if (c == 0) break;  // dump() gives valid UTF-8 and escapes NUL
    if (is_terminal_control(c)) {
      escaped += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      escaped.append(before.substr(0, before.size() - rest.size()));
    }
  }
  show_raw(escaped + "\n");
}

bool everything_shown() { return all_shown; }

void say(std::string_view text, std::string_view program) {
  erase_status();
  tell(fmt::format("{}: {}\n", program, terminal_text(text)));
}

bool has_status() {
  const char* const kind = std::getenv("TERM");
  return kind != nullptr && *kind != '\0' && std::string_view(kind) != "dumb" &&
         ::isatty(STDERR_FILENO) == 1;
}

void draw_status(std::string_view line) {
  if (!has_status()) return;
  // A line that wraps could not be erased.
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  tell(fmt::format("{}{:.{}}", kEraseLine, printable(line), known ? size.ws_col - 1 : 79));
  status_drawn = true;
}

void erase_status() {
  if (status_drawn) tell(kEraseLine);
  status_drawn = false;
}

void keep_status() {
  if (status_drawn) tell("\n");
  status_drawn = false;
}

}  // namespace rtlynx::terminal
