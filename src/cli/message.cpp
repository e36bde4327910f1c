// SPDX-License-Identifier: Apache-2.0
#include <c10/util/Exception.h>

#include <new>
#include <string_view>

#include "cli/commands.h"

namespace rtlynx::cli {
namespace {

// Of torch's allocators on the CPU and the GPU; the sizes that they name are kept.
bool is_out_of_memory(std::string_view text) {
  return text.find("can't allocate memory") != std::string_view::npos ||
         text.find("not enough memory") != std::string_view::npos ||
         text.find("out of memory") != std::string_view::npos;
}

// torch's checks begin with where in its sources they stand: "[enforce fail at ...] err == 0.
// text".
std::string_view without_place(std::string_view text) {
  if (!text.starts_with("[enforce fail at ")) return text;
  const std::size_t end = text.find(". ");
  return end == std::string_view::npos ? text : text.substr(end + 2);
}

}  // namespace

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  const auto* from_torch = dynamic_cast<const c10::Error*>(&error);
  std::string text = from_torch != nullptr ? from_torch->what_without_backtrace() : error.what();
  text = without_place(text);
  while (text.ends_with('\n')) text.pop_back();
  return is_out_of_memory(text) ? "out of memory; a smaller --batch or --size takes less: " + text
                                : text;
}

}  // namespace rtlynx::cli
