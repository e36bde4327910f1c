// SPDX-License-Identifier: Apache-2.0
#include "compensate/fold_transform.h"

#include <algorithm>
#include <set>

namespace rtlynx {
namespace {

bool is_foldable(const InputTransform& transform) {
  return transform.scale.defined() || transform.permutation.defined();
}

bool same(const torch::Tensor& a, const torch::Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || a.equal(b));
}

bool same(const InputTransform& a, const InputTransform& b) {
  return same(a.blocks, b.blocks) && same(a.scale, b.scale) && same(a.permutation, b.permutation);
}

// Whether every channel stays in its block of `block` channels, counted from the first.
bool keeps_to_blocks(const torch::Tensor& permutation, std::int64_t first, std::int64_t count,
                     std::int64_t block) {
  const torch::Tensor from = permutation.narrow(0, first, count) - first;
  const torch::Tensor to = torch::arange(count, permutation.options());
  const auto block_of = [&](const torch::Tensor& channel) {
    return torch::floor_divide(channel, block);
  };
  return block_of(from).equal(block_of(to));
}

bool takes_order(const ProducedInput& input, const torch::Tensor& permutation) {
  std::int64_t first = 0;
  for (const ProducedChannels& channels : input.channels) {
    if (!keeps_to_blocks(permutation, first, channels.count, channels.order_block)) return false;
    first += channels.count;
  }
  return true;
}

bool takes_scale(const ProducedInput& input) {
  return std::all_of(input.channels.begin(), input.channels.end(),
                     [](const ProducedChannels& channels) { return channels.takes_scale; });
}

bool is_compensated(const SparseLinear& linear) {
  return linear->mode() == LinearMode::compensated;
}

// Whether its columns can be changed as those of any weight.
bool is_plain(const Replacement& replacement) {
  return replacement.weight.defined() && !replacement.axes.defined() &&
         !replacement.down.defined() && !replacement.sparse;
}

/// What a layer multiplies by now, in fp64, to be changed and set again.
class WorkingWeights {
 public:
  explicit WorkingWeights(const SparseLinear& linear) : linear_(linear) {
    if (is_compensated(linear)) values_ = *linear->compensation();
    if (linear->mode() == LinearMode::replaced) {
      replacement_ = *linear->replacement();
      values_.weight = replacement_.weight;
      values_.up = replacement_.up;
      values_.bias = replacement_.bias;
    } else if (!values_.weight.defined()) {
      values_.weight = linear->weight;
    }
    if (!values_.bias.defined()) values_.bias = linear->bias;
    for (torch::Tensor* tensor : tensors_by_row()) {
      if (tensor->defined()) *tensor = tensor->detach().to(torch::kFloat64);
    }
  }

  /// Outputs first to first + scale.size(0) - 1 become scale (output + offset) - offset.
  void scale_rows(std::int64_t first, const torch::Tensor& scale, double offset) {
    if (offset != 0 && !values_.bias.defined()) {
      values_.bias =
          torch::zeros({linear_->weight.size(0)}, linear_->weight.options().dtype(torch::kFloat64));
    }
    change_rows(first, scale.numel(), [&](const torch::Tensor& rows) {
      const bool is_bias = rows.dim() == 1;
      return is_bias ? scale * (rows + offset) - offset : scale.unsqueeze(1) * rows;
    });
  }

  /// Output first + i becomes what output first + order[i] was.
  void permute_rows(std::int64_t first, const torch::Tensor& order) {
    change_rows(first, order.numel(),
                [&](const torch::Tensor& rows) { return rows.index_select(0, order); });
  }

  /// The layer reads `folded` of its input from now on.
  void read_transformed(const InputTransform& folded) {
    values_.weight = folded.weight_for_z(values_.weight);
  }

  void leave_transform(const InputTransform& left) { values_.transform = left; }

  void set() {
    if (is_compensated(linear_)) {
      linear_->set_compensation(values_);
    } else {
      replacement_.weight = values_.weight;
      replacement_.up = values_.up;
      replacement_.bias = values_.bias;
      linear_->set_replacement(replacement_);
      linear_->set_mode(LinearMode::replaced);
    }
  }

 private:
  std::vector<torch::Tensor*> tensors_by_row() {
    return {&values_.weight, &values_.up, &values_.bias};
  }

  template <typename Change>
  void change_rows(std::int64_t first, std::int64_t count, Change&& change) {
    for (torch::Tensor* tensor : tensors_by_row()) {
      if (!tensor->defined()) continue;
      torch::Tensor changed = tensor->clone();
      changed.narrow(0, first, count).copy_(change(tensor->narrow(0, first, count)));
      *tensor = changed;
    }
  }

  SparseLinear linear_;
  Compensation24 values_;
  Replacement replacement_;  // of a layer that is not compensated: what `values_` does not hold
};

void fold_into(const ProducerRows& rows, const InputTransform& folded, std::int64_t first,
               std::int64_t count) {
  WorkingWeights weights(rows.layer.linear);
  const torch::Device device = rows.layer.linear->weight.device();
  if (folded.scale.defined() && rows.takes_scale) {
    const torch::Tensor scale = folded.scale.narrow(0, first, count).to(device, torch::kFloat64);
    weights.scale_rows(rows.first, scale, rows.offset);
  }
  if (folded.permutation.defined()) {
    weights.permute_rows(rows.first, folded.permutation.narrow(0, first, count).to(device) - first);
  }
  weights.set();
}

// Why the readers' transforms, or the modes of layers around, do not allow it; nothing if they do.
std::optional<std::string> obstacle(const ProducedInput& input, const InputTransform& transform) {
  const auto chooses_by_itself = [](const SparseLinear& linear) {
    return linear->mode() == LinearMode::naive || linear->mode() == LinearMode::norm;
  };
  for (const NamedLinear& reader : input.readers) {
    const bool another =
        is_compensated(reader.linear) && !same(reader.linear->compensation()->transform, transform);
    if (another || chooses_by_itself(reader.linear)) {
      return reader.name + " reads the same input and chooses by another transform";
    }
    if (reader.linear->mode() == LinearMode::replaced && !is_plain(*reader.linear->replacement())) {
      return reader.name + " reads the same input and is replaced by more than a dense weight";
    }
  }
  for (const ProducedChannels& channels : input.channels) {
    for (const ProducerRows& rows : channels.rows) {
      if (chooses_by_itself(rows.layer.linear)) return rows.layer.name + " is not compensated";
    }
  }
  return std::nullopt;
}

FoldedInput fold_input(const ProducedInput& input, const std::vector<NamedLinear>& compensated) {
  const InputTransform transform = compensated.front().linear->compensation()->transform;
  FoldedInput result{.readers = {}, .left = transform, .why = obstacle(input, transform)};
  for (const NamedLinear& reader : compensated) result.readers.push_back(reader.name);
  if (result.why) return result;
  const SplitTransform split = split_transform(input, transform);
  if (split.folded.is_identity()) return result;
  fold_into_producers(input, split.folded);
  for (const NamedLinear& reader : compensated) {
    WorkingWeights weights(reader.linear);
    weights.leave_transform(split.left);
    weights.set();
  }
  result.left = split.left;
  return result;
}

}  // namespace

SplitTransform split_transform(const ProducedInput& input, const InputTransform& transform) {
  SplitTransform split{.folded = {}, .left = transform};
  if (transform.permutation.defined() && takes_order(input, transform.permutation)) {
    split.folded.permutation = transform.permutation;
    split.left.permutation = torch::Tensor();
  }
  if (!transform.scale.defined()) return split;
  if (takes_scale(input)) {
    split.folded.scale = transform.scale;
    split.left.scale = torch::Tensor();
  } else if (split.folded.permutation.defined()) {
    // The factors follow their channels to the new places.
    const torch::Tensor order = transform.permutation.to(transform.scale.device());
    split.left.scale = transform.scale.index_select(0, order);
  }
  return split;
}

void fold_into_producers(const ProducedInput& input, const InputTransform& folded) {
  const torch::NoGradGuard no_grad;
  for (const NamedLinear& reader : input.readers) {
    if (is_compensated(reader.linear)) continue;
    WorkingWeights weights(reader.linear);
    weights.read_transformed(folded);
    weights.set();
  }
  std::int64_t first = 0;
  for (const ProducedChannels& channels : input.channels) {
    for (const ProducerRows& rows : channels.rows) fold_into(rows, folded, first, channels.count);
    first += channels.count;
  }
}

std::vector<FoldedInput> fold_transforms(torch::nn::Module& model,
                                         const std::vector<LayerGroup>& groups) {
  const torch::NoGradGuard no_grad;
  std::vector<FoldedInput> results;
  std::set<std::string> seen;
  for (const ProducedInput& input : produced_inputs(model, groups)) {
    std::vector<NamedLinear> compensated;
    for (const NamedLinear& reader : input.readers) {
      if (!is_compensated(reader.linear)) continue;
      if (!is_foldable(reader.linear->compensation()->transform)) continue;
      compensated.push_back(reader);
      seen.insert(reader.name);
    }
    if (!compensated.empty()) results.push_back(fold_input(input, compensated));
  }
  for (const NamedLinear& layer : named_linears(model)) {
    if (seen.contains(layer.name) || !is_compensated(layer.linear)) continue;
    const InputTransform& transform = layer.linear->compensation()->transform;
    if (!is_foldable(transform)) continue;
    results.push_back({.readers = {layer.name},
                       .left = transform,
                       .why = "what its input is made of is not known to take it"});
  }
  return results;
}

}  // namespace rtlynx
