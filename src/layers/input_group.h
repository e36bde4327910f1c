// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "layers/linear_form.h"
#include "layers/sparse_linear.h"
#include "layers/weight_products.h"
#include "ops/ops.h"
#include "rtlynx/rows.h"

namespace rtlynx {

/// An operator's argument that is left out if the tensor is undefined.
ops::OptionalTensor given(const torch::Tensor& tensor);

/// An input of Linears on its way there: x, [x, tail], SiLU(x) * up, or the norm of x, modulated.
struct GroupInput {
  torch::Tensor x;             // [B, S, K], or its first channels
  torch::Tensor tail;          // [B, S, K2]: its last channels, if they lie elsewhere
  torch::Tensor up;            // [B, S, K]: SwiGLU's other factor
  torch::Tensor moments;       // [B, S, 2]: the input is the norm of x ...
  torch::Tensor weight;        // [K]: ... times weight, if it has one ...
  torch::Tensor scale, shift;  // [B, K]: ... times 1 + scale, plus shift, if it has them
  Norm norm = Norm::layer;     // which norm the moments are of
  double eps = 1e-6;           // of the norm
  torch::Tensor normed;        // [B, S, K]: that input, where it is there already
  torch::Tensor limit;         // [B, S] fp32: bounds of the magnitudes of x, or of x * up ...
  torch::Tensor tail_limit;    // ... and of the tail, where the group reads them as e4m3

  /// The input itself [B, S, K].
  torch::Tensor dense() const;
};

/// Zeros [B, S] fp32 to raise, for a stream [B, S, K].
inline torch::Tensor zero_limits(const torch::Tensor& stream) {
  return torch::zeros({stream.size(0), stream.size(1)}, stream.options().dtype(torch::kFloat32));
}

/// The Linears that read one input, prepared to run on it together: those with a sparse activation
/// share one pack and one product, plain ones with one activation function one dense product, those
/// with sparse weights one product on the GPUs that have it.
///
/// What runs how is read from the layers when the group is made: a layer that changes afterwards
/// needs a new group. Dense layers' weights move into one tensor, of which each keeps its rows.
class InputGroup {
 public:
  InputGroup() = default;

  /// `activations`: of each layer's result; none if there are none. Throws Error if layers with a
  /// sparse activation differ in transform, norm or e4m3: one input has one pack.
  explicit InputGroup(std::vector<SparseLinear> layers,
                      std::vector<ops::Activation> activations = {});

  /// Whether a layer reads the input itself: then it is best made beside its moments.
  bool reads_dense() const { return !stacks_.empty() || !others_.empty() || !weights_.empty(); }
  bool reads_packed() const { return !packs_.empty(); }

  /// Whether it is faster with limits in its input.
  bool reads_limits() const;

  /// The layers' results [B, S, N_i], in their order. Rows may lie apart. `out`: where to write
  /// them, none at all or an entry for each layer, which may be undefined. `largest`: the same for
  /// [B, S] fp32, raised to the largest magnitude of each token's results.
  std::vector<torch::Tensor> forward(const GroupInput& input,
                                     const std::vector<torch::Tensor>& out = {},
                                     const std::vector<torch::Tensor>& largest = {}) const;

 private:
  /// Layers that read one packed input, at most as many and as much low rank as go into one.
  struct Pack {
    ops::PackOptions options;  // transform, down, norm
    std::vector<ops::ProductLayer> layers;
    std::vector<std::size_t> members;
  };
  /// Dense layers with their weights one below the other.
  struct Stack {
    torch::Tensor weight;  // [sum of N, K]
    torch::Tensor bias;    // [sum of N], or undefined
    ops::Activation activation = ops::Activation::none;
    std::vector<std::int64_t> outputs;
    std::vector<std::size_t> members;
  };

  void run_pack(const Pack& pack, const GroupInput& input, std::vector<torch::Tensor>& results,
                const std::vector<torch::Tensor>& largest) const;
  void run_alone(std::size_t member, const torch::Tensor& z,
                 std::vector<torch::Tensor>& results) const;
  void raise_others(const std::vector<torch::Tensor>& results,
                    const std::vector<torch::Tensor>& largest) const;
  void run_stack(const Stack& stack, const torch::Tensor& z,
                 std::vector<torch::Tensor>& results) const;

  void add_sparse(std::size_t member, const LinearForm& form);
  static void round_to_e4m3(Pack& pack);
  void add_dense(std::size_t member);
  void join_stacks();

  std::vector<SparseLinear> layers_;
  std::vector<ops::Activation> activations_;
  std::vector<Pack> packs_;
  std::vector<Stack> stacks_;
  WeightProducts weights_;
  std::vector<std::size_t> others_;  // what replaces a weight by something else runs by itself
};

}  // namespace rtlynx
