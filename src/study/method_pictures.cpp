// SPDX-License-Identifier: Apache-2.0
#include "study/method_pictures.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "io/png.h"

namespace rtlynx {

void write_method_pictures(const std::filesystem::path& folder, const std::string& method,
                           const std::vector<Image>& pictures, int count) {
  if (folder.empty()) return;
  const auto written = std::min(pictures.size(), static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < written; ++i) {
    std::ostringstream name;
    name << method << '-' << std::setfill('0') << std::setw(4) << i << ".png";
    write_png(folder / name.str(), pictures[i]);
  }
}

int other_batch(int at_once, int batch) { return at_once > 1 ? 1 : std::max(2, batch); }

}  // namespace rtlynx
