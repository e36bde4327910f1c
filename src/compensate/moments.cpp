// SPDX-License-Identifier: Apache-2.0
#include "compensate/moments.h"

#include <ATen/Context.h>

#include <algorithm>
#include <sstream>

#include "base/error.h"
#include "io/text.h"
#include "layers/finite.h"

namespace rtlynx {
namespace {

constexpr const char* kOp = "InputMoments";

std::string shape_of(const torch::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.sizes();
  return text.str();
}

void check_input(const torch::Tensor& x, const torch::Tensor& sum) {
  if (x.dim() < 1 || x.size(-1) < 1 || !x.is_floating_point()) {
    fail(kOp, "a floating-point input [..., K]", shape_of(x));
  }
  if (sum.defined() && x.size(-1) != sum.size(0)) {
    fail(kOp, "inputs of " + std::to_string(sum.size(0)) + " channels", std::to_string(x.size(-1)));
  }
}

// [n, K] fp32
torch::Tensor as_rows(const torch::Tensor& x) {
  return x.detach().reshape({-1, x.size(-1)}).to(torch::kFloat32);
}

// a^T a [K, K] of a [n, K]. It is symmetric: of wide inputs the blocks on and above the diagonal
// are multiplied, and the others are copied.
torch::Tensor gram(const torch::Tensor& a) {
  constexpr std::int64_t kNarrowest = 256, kBlocks = 4;
  const std::int64_t channels = a.size(1);
  const std::int64_t block = std::max(kNarrowest, (channels + kBlocks - 1) / kBlocks);
  if (channels <= block) return torch::mm(a.t(), a);
  torch::Tensor product = torch::empty({channels, channels}, a.options());
  for (std::int64_t first = 0; first < channels; first += block) {
    const std::int64_t width = std::min(block, channels - first), last = first + width;
    const torch::Tensor rows = product.narrow(0, first, width);
    torch::Tensor right = rows.narrow(1, first, channels - first);
    torch::mm_out(right, a.narrow(1, first, width).t(), a.narrow(1, first, channels - first));
    product.narrow(0, last, channels - last)
        .narrow(1, first, width)
        .copy_(rows.narrow(1, last, channels - last).t());
  }
  return product;
}

void accumulate(torch::Tensor& sum, const torch::Tensor& product) {
  if (sum.defined()) {
    sum += product;
  } else {
    sum = product.to(torch::kFloat64);
  }
}

}  // namespace

void InputMoments::add(const torch::Tensor& x) {
  check_input(x, xx);
  require(!xs.defined(), kOp, "what was selected beside every input, as before", "inputs alone");
  const at::NoTF32Guard full_precision;
  const torch::Tensor rows = as_rows(x);
  accumulate(xx, gram(rows));
  tokens += rows.size(0);
}

void InputMoments::add(const torch::Tensor& x, const torch::Tensor& selected) {
  check_input(x, xx);
  require(!xx.defined() || xs.defined(), kOp, "inputs alone, as before",
          "what was selected beside them");
  if (selected.sizes() != x.sizes()) {
    fail(kOp, "a selection of the input's shape " + shape_of(x), shape_of(selected));
  }
  const at::NoTF32Guard full_precision;
  const torch::Tensor rows = as_rows(x), kept = as_rows(selected);
  accumulate(xx, gram(rows));
  accumulate(xs, torch::mm(rows.t(), kept));
  accumulate(ss, gram(kept));
  tokens += rows.size(0);
}

void InputMoments::merge(const InputMoments& other) {
  if (other.tokens == 0) return;
  if (tokens == 0) {
    *this = {.xx = other.xx.clone(),
             .xs = other.xs.defined() ? other.xs.clone() : torch::Tensor(),
             .ss = other.ss.defined() ? other.ss.clone() : torch::Tensor(),
             .tokens = other.tokens};
    return;
  }
  require(xx.sizes() == other.xx.sizes(), kOp,
          "moments of " + std::to_string(channels()) + " channels",
          std::to_string(other.channels()));
  require(xs.defined() == other.xs.defined(), kOp, "the same sums on both sides",
          "one without what was selected");
  xx += other.xx.to(xx.device());
  if (xs.defined()) {
    xs += other.xs.to(xs.device());
    ss += other.ss.to(ss.device());
  }
  tokens += other.tokens;
}

torch::Tensor InputMoments::second_moment() const {
  require(tokens > 0, kOp, "at least one token", "none");
  return xx / static_cast<double>(tokens);
}

void check_finite(const GroupMoments& moments) {
  for (const auto& [group, sums] : moments) {
    for (const torch::Tensor& sum : {sums.xx, sums.xs, sums.ss}) {
      require_finite(sum, "moments of the input " + group);
    }
  }
}

std::vector<std::pair<std::string, torch::Tensor>> named_tensors(const GroupMoments& moments) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& [group, sums] : moments) {
    if (sums.tokens == 0) continue;
    tensors.emplace_back(group + ".xx", sums.xx);
    if (sums.xs.defined()) {
      tensors.emplace_back(group + ".xs", sums.xs);
      tensors.emplace_back(group + ".ss", sums.ss);
    }
    tensors.emplace_back(group + ".tokens", torch::tensor(sums.tokens, torch::kInt64));
  }
  return tensors;
}

GroupMoments moments_from_tensors(const std::map<std::string, torch::Tensor>& tensors,
                                  const std::string& where) {
  GroupMoments moments;
  for (const auto& [name, tensor] : tensors) {
    const std::string place = where + ", tensor " + printable(name);
    const std::size_t dot = name.rfind('.');
    const std::string sum = dot == std::string::npos ? "" : name.substr(dot + 1);
    InputMoments& of_group = moments[name.substr(0, dot)];
    if (sum == "tokens") {
      require(tensor.scalar_type() == torch::kInt64 && tensor.dim() == 0, place, "one int64",
              shape_of(tensor));
      of_group.tokens = tensor.item<std::int64_t>();
      require(of_group.tokens > 0, place, "at least one token", std::to_string(of_group.tokens));
      continue;
    }
    const bool square = tensor.scalar_type() == torch::kFloat64 && tensor.dim() == 2 &&
                        tensor.size(0) == tensor.size(1);
    if (!square) fail(place, "a square fp64 matrix", shape_of(tensor));
    require_finite(tensor, place);
    if (sum == "xx") {
      of_group.xx = tensor;
    } else if (sum == "xs") {
      of_group.xs = tensor;
    } else if (sum == "ss") {
      of_group.ss = tensor;
    } else {
      fail(place, "a name that ends in .xx, .xs, .ss or .tokens", "another");
    }
  }
  for (const auto& [group, sums] : moments) {
    const std::string place = where + ", group " + printable(group);
    require(sums.xx.defined() && sums.tokens > 0 && sums.xs.defined() == sums.ss.defined(), place,
            "xx and tokens, and xs with ss or neither", "a part of them");
    require(!sums.xs.defined() ||
                (sums.xs.sizes() == sums.xx.sizes() && sums.ss.sizes() == sums.xx.sizes()),
            place, "sums of one size", "several");
  }
  return moments;
}

}  // namespace rtlynx
