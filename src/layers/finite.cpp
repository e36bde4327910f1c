// SPDX-License-Identifier: Apache-2.0
#include "layers/finite.h"

#include <cmath>
#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

const char* name_of(double value) {
  if (std::isnan(value)) return "NaN";
  return value > 0 ? "infinity" : "-infinity";
}

// Where the first value that is not finite stands, [i, j, ...].
std::string place_of(std::int64_t index, torch::IntArrayRef shape) {
  std::string place;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    place = std::to_string(index % shape[axis]) + (place.empty() ? "" : ", ") + place;
    index /= shape[axis];
  }
  return "[" + place + "]";
}

[[noreturn]] void refuse(const torch::Tensor& values, const torch::Tensor& finite,
                         std::string_view where) {
  const std::int64_t first = finite.flatten().to(torch::kUInt8).argmin().item<std::int64_t>();
  const std::int64_t count = values.numel() - finite.sum().item<std::int64_t>();
  fail(where, "finite values",
       std::string(name_of(values.flatten()[first].item<double>())) + " at " +
           place_of(first, values.sizes()) + ", " + std::to_string(count) + " such among " +
           std::to_string(values.numel()));
}

}  // namespace

void require_finite(const torch::Tensor& values, std::string_view where) {
  if (!values.defined() || !values.is_floating_point() || values.numel() == 0) return;
  const torch::Tensor detached = values.detach();
  const torch::Tensor finite = detached.isfinite();
  if (!finite.all().item<bool>()) refuse(detached, finite, where);
}

void require_finite(double value, std::string_view where) {
  if (!std::isfinite(value)) fail(where, "a finite value", name_of(value));
}

}  // namespace rtlynx
