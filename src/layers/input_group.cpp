// SPDX-License-Identifier: Apache-2.0
#include "layers/input_group.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "layers/e4m3.h"
#include "rtlynx/limits.h"

namespace rtlynx {
namespace {

constexpr const char* kOp = "InputGroup";
constexpr std::int64_t kTailStart = 128;  // the pack takes a tail behind multiples of it

bool same_or_neither(const torch::Tensor& a, const torch::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  return a.is_same(b) || torch::equal(a, b);
}

bool same_transform(const InputTransform& a, const InputTransform& b) {
  return same_or_neither(a.blocks, b.blocks) && same_or_neither(a.scale, b.scale) &&
         same_or_neither(a.permutation, b.permutation);
}

/// One dense product, with the bias and GELU in its epilogue where torch has one; into `out` if it
/// is defined. torch gives rows that lie apart no epilogue: a copy costs less than what it does
/// then.
torch::Tensor dense_product(const torch::Tensor& x, const torch::Tensor& weight,
                            const torch::Tensor& bias, ops::Activation activation,
                            const torch::Tensor& out) {
  const bool gelu = activation == ops::Activation::gelu;
  torch::Tensor y;
  if (x.is_cuda() && bias.defined() && gelu) {
    const torch::Tensor rows = x.reshape({-1, x.size(-1)});
    y = torch::_addmm_activation(bias, rows, weight.t(), 1, 1, /*use_gelu=*/true)
            .view({x.size(0), x.size(1), weight.size(0)});
  } else {
    y = torch::linear(x, weight, bias);
    if (gelu) y = torch::gelu(y, "tanh");
  }
  if (!out.defined()) return y;
  torch::Tensor target = out;
  return target.copy_(y);
}

}  // namespace

ops::OptionalTensor given(const torch::Tensor& tensor) {
  return tensor.defined() ? ops::OptionalTensor(tensor) : std::nullopt;
}

torch::Tensor GroupInput::dense() const {
  if (normed.defined()) return normed;
  if (moments.defined()) {
    return ops::residual_norm(x, {.norm = norm == Norm::rms ? "rms" : "layer",
                                  .eps = eps,
                                  .weight = given(weight),
                                  .scale = given(scale),
                                  .shift = given(shift),
                                  .want_normed = true})
        .normed;
  }
  if (up.defined()) return ops::swiglu(x, up);
  return tail.defined() ? torch::cat({x, tail}, /*dim=*/-1) : x;
}

InputGroup::InputGroup(std::vector<SparseLinear> layers, std::vector<ops::Activation> activations)
    : layers_(std::move(layers)), activations_(std::move(activations)) {
  const torch::NoGradGuard no_grad;
  require(!layers_.empty(), kOp, "at least one layer", "none");
  activations_.resize(layers_.size(), ops::Activation::none);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LinearForm form = layers_[i]->form();
    const bool plain = layers_[i]->mode() == LinearMode::dense;
    if (form.side == SparseSide::activation) {
      add_sparse(i, form);
    } else if (plain) {
      add_dense(i);
    } else if (form.side != SparseSide::weight ||
               !weights_.add(i, *layers_[i]->replacement(), layers_[i]->bias, activations_[i])) {
      others_.push_back(i);
    }
  }
  for (Pack& pack : packs_) {
    if (layers_[pack.members.front()]->form().e4m3) round_to_e4m3(pack);
  }
  join_stacks();
}

void InputGroup::round_to_e4m3(Pack& pack) {
  std::vector<torch::Tensor> weights;
  for (const ops::ProductLayer& layer : pack.layers) weights.push_back(layer.weight);
  const double unit = e4m3_unit(weights);
  for (ops::ProductLayer& layer : pack.layers) {
    layer.weight = to_e4m3(layer.weight, unit);
    if (layer.up.defined()) layer.up = layer.up / unit;
  }
  pack.options.e4m3_unit = unit;
  if (pack.options.transform) {
    pack.options.transform_gain = transform_gain(*pack.options.transform);
  }
}

void InputGroup::add_sparse(std::size_t member, const LinearForm& form) {
  const InputTransform& transform = form.transform;
  if (!packs_.empty()) {
    const Pack& first = packs_.front();
    const LinearForm leader = layers_[first.members.front()]->form();
    require(same_transform(leader.transform, transform) && leader.norm == form.norm &&
                leader.e4m3 == form.e4m3,
            kOp, "one transform, norm and type for all layers that read an input", "several");
  }
  ops::ProductLayer layer{
      .weight = form.weight, .bias = form.bias, .activation = activations_[member]};
  torch::Tensor down;
  if (form.down.defined()) {
    down = padded_rank(transform.down_for_x(form.down), 0);
    layer.up = padded_rank(form.up, 1).contiguous();
  }
  const std::int64_t rank = down.defined() ? down.size(0) : 0;
  const auto fits = [&](const Pack& pack) {
    const std::int64_t used = pack.options.down ? pack.options.down->size(0) : 0;
    const std::int64_t own = pack.layers.front().up.defined() ? pack.layers.front().up.size(1) : 0;
    return pack.layers.size() < kMaxProducts && own == rank && used + rank <= kMaxLowColumns;
  };
  const auto at = std::find_if(packs_.begin(), packs_.end(), fits);
  Pack& pack = at != packs_.end() ? *at : packs_.emplace_back();
  if (pack.members.empty()) {
    if (transform.blocks.defined()) {
      pack.options.transform = transform.blocks.transpose(1, 2).contiguous();
    }
    pack.options.norm = form.norm;
  }
  if (down.defined()) {
    const bool shared = pack.options.down && !pack.members.empty() &&
                        same_or_neither(layers_[pack.members.front()]->form().down, form.down);
    if (!shared) {
      layer.low_start = pack.options.down ? pack.options.down->size(0) : 0;
      pack.options.down = pack.options.down ? torch::cat({*pack.options.down, down}) : down;
    }
  }
  pack.layers.push_back(std::move(layer));
  pack.members.push_back(member);
}

void InputGroup::add_dense(std::size_t member) {
  const SparseLinear& layer = layers_[member];
  const auto fits = [&](const Stack& stack) {
    return stack.activation == activations_[member] &&
           stack.bias.defined() == layer->bias.defined();
  };
  const auto at = std::find_if(stacks_.begin(), stacks_.end(), fits);
  Stack& stack = at != stacks_.end() ? *at : stacks_.emplace_back();
  stack.activation = activations_[member];
  stack.bias = layer->bias;
  stack.outputs.push_back(layer->out_features());
  stack.members.push_back(member);
}

void InputGroup::join_stacks() {
  for (Stack& stack : stacks_) {
    std::vector<torch::Tensor> weights, biases;
    for (const std::size_t member : stack.members) {
      weights.push_back(layers_[member]->weight.detach());
      if (stack.bias.defined()) biases.push_back(layers_[member]->bias.detach());
    }
    stack.weight = weights.size() > 1 ? torch::cat(weights) : weights.front();
    if (stack.bias.defined()) stack.bias = biases.size() > 1 ? torch::cat(biases) : biases.front();
    std::int64_t first = 0;
    for (std::size_t i = 0; i < stack.members.size() && weights.size() > 1; ++i) {
      SparseLinear& layer = layers_[stack.members[i]];
      layer->weight.set_data(stack.weight.narrow(0, first, stack.outputs[i]));
      first += stack.outputs[i];
    }
  }
}

bool InputGroup::reads_limits() const {
  return std::any_of(packs_.begin(), packs_.end(),
                     [](const Pack& pack) { return pack.options.e4m3_unit.has_value(); });
}

void InputGroup::run_pack(const Pack& pack, const GroupInput& input,
                          std::vector<torch::Tensor>& results,
                          const std::vector<torch::Tensor>& largest) const {
  ops::PackOptions options = pack.options;
  torch::Tensor x = input.x;
  const InputTransform& transform = layers_[pack.members.front()]->form().transform;
  if (transform.scale.defined() || transform.permutation.defined()) {
    x = transform.apply(input.dense());
  } else if (input.moments.defined()) {
    options.producer = input.norm == Norm::rms ? "rms_norm" : "layer_norm";
    options.moments = input.moments;
    options.weight = given(input.weight);
    options.scale = given(input.scale);
    options.shift = given(input.shift);
  } else if (input.up.defined()) {
    options.producer = "swiglu";
    options.up = input.up;
  } else if (input.tail.defined() && x.size(-1) % kTailStart == 0) {
    options.tail = input.tail;
  } else {
    x = input.dense();
  }
  if (options.e4m3_unit && x.is_same(input.x) && !input.moments.defined()) {
    options.limit = given(input.limit);
    if (options.tail) options.tail_limit = given(input.tail_limit);
  }
  const ops::Packed packed = ops::pack(x, options);
  const auto wanted = [&](std::size_t i) { return i < largest.size() && largest[i].defined(); };
  const bool any_place = std::any_of(pack.members.begin(), pack.members.end(), [&](std::size_t i) {
    return results[i].defined() || wanted(i);
  });
  if (!any_place) {
    std::vector<torch::Tensor> ys = ops::product(packed, pack.layers);
    for (std::size_t i = 0; i < ys.size(); ++i) results[pack.members[i]] = std::move(ys[i]);
    return;
  }
  std::vector<torch::Tensor> places, raised;
  for (std::size_t i = 0; i < pack.members.size(); ++i) {
    torch::Tensor& place = results[pack.members[i]];
    const std::int64_t outputs = pack.layers[i].weight.size(0);
    if (!place.defined()) place = torch::empty({x.size(0), x.size(1), outputs}, x.options());
    places.push_back(place);
    const std::size_t member = pack.members[i];
    raised.push_back(wanted(member) ? largest[member]
                                    : torch::empty({0}, x.options().dtype(torch::kFloat32)));
  }
  ops::product_out(packed, pack.layers, places, raised);
}

void InputGroup::run_stack(const Stack& stack, const torch::Tensor& z,
                           std::vector<torch::Tensor>& results) const {
  if (stack.members.size() == 1) {
    torch::Tensor& place = results[stack.members.front()];
    place = dense_product(z, stack.weight, stack.bias, stack.activation, place);
    return;
  }
  const torch::Tensor y = dense_product(z, stack.weight, stack.bias, stack.activation, {});
  const std::vector<torch::Tensor> parts = y.split_with_sizes(stack.outputs, -1);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    torch::Tensor& place = results[stack.members[i]];
    if (place.defined()) {
      place.copy_(parts[i]);
    } else {
      place = parts[i];
    }
  }
}

void InputGroup::raise_others(const std::vector<torch::Tensor>& results,
                              const std::vector<torch::Tensor>& largest) const {
  const auto raise = [&](std::size_t member) {
    if (member >= largest.size() || !largest[member].defined()) return;
    torch::Tensor target = largest[member];
    const torch::Tensor own = results[member].abs().amax(-1).to(torch::kFloat32);
    target.copy_(torch::maximum(target, own));
  };
  for (const Stack& stack : stacks_)
    std::for_each(stack.members.begin(), stack.members.end(), raise);
  const std::vector<std::size_t> sparse = weights_.members();
  std::for_each(sparse.begin(), sparse.end(), raise);
  std::for_each(others_.begin(), others_.end(), raise);
}

std::vector<torch::Tensor> InputGroup::forward(const GroupInput& input,
                                               const std::vector<torch::Tensor>& out,
                                               const std::vector<torch::Tensor>& largest) const {
  std::vector<torch::Tensor> results = out;
  results.resize(layers_.size());
  for (const Pack& pack : packs_) run_pack(pack, input, results, largest);
  if (!reads_dense()) return results;
  const torch::Tensor z = input.dense();
  for (const Stack& stack : stacks_) run_stack(stack, z, results);
  if (z.size(0) * z.size(1) >= WeightProducts::kLeastTokens) {
    weights_.run(z, results);
  } else {
    for (const std::size_t member : weights_.members()) run_alone(member, z, results);
  }
  for (const std::size_t member : others_) run_alone(member, z, results);
  raise_others(results, largest);
  return results;
}

void InputGroup::run_alone(std::size_t member, const torch::Tensor& z,
                           std::vector<torch::Tensor>& results) const {
  torch::Tensor y = SparseLinear(layers_[member])(z);
  if (activations_[member] == ops::Activation::gelu) y = torch::gelu(y, "tanh");
  torch::Tensor& place = results[member];
  if (place.defined()) {
    place.copy_(y);
  } else {
    place = y;
  }
}

}  // namespace rtlynx
