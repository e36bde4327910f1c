// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/stable/library.h>

namespace rtlynx::ops {

// Declared in ops.h, which is not for this library: it needs more of torch than the stable ABI.
__attribute__((visibility("default"))) void keep_operators();
void keep_operators() {}

}  // namespace rtlynx::ops

// The operators of this library, once for C++ and Python. ops.h describes them. All but those
// named _out are functional: no argument is written to, no result shares memory with an argument.
STABLE_TORCH_LIBRARY(rtlynx, m) {
  m.def("sparsify24(Tensor x, bool norm=True) -> (Tensor kept, Tensor scale)");
  m.def(
      "pack(Tensor x, Tensor? tail=None, str producer='none', Tensor? up=None, "
      "Tensor? moments=None, Tensor? weight=None, Tensor? scale=None, Tensor? shift=None, "
      "float eps=1e-06, Tensor? transform=None, Tensor? down=None, bool norm=True, "
      "float? e4m3_unit=None, float transform_gain=1.0, Tensor? limit=None, "
      "Tensor? tail_limit=None) -> "
      "(Tensor operand, Tensor row_scale, Tensor low)");
  m.def(
      "product(Tensor operand, Tensor row_scale, Tensor low, Tensor[] weights, Tensor[] ups, "
      "int[] low_starts, Tensor[] biases, int[] activations, Tensor[] gates, "
      "Tensor[] residuals) -> Tensor[]");
  m.def(
      "product_out(Tensor operand, Tensor row_scale, Tensor low, Tensor[] weights, Tensor[] ups, "
      "int[] low_starts, Tensor[] biases, int[] activations, Tensor[] gates, Tensor[] residuals, "
      "Tensor(a!)[] out, Tensor(b!)[] largest) -> ()");
  m.def("pack_weight(Tensor weight) -> Tensor");
  m.def(
      "weight_product(Tensor x, Tensor low, Tensor[] weights, int[] outputs, Tensor[] ups, "
      "int[] low_starts, Tensor[] biases, int[] activations, Tensor[] gates, "
      "Tensor[] residuals) -> Tensor[]");
  m.def(
      "weight_product_out(Tensor x, Tensor low, Tensor[] weights, int[] outputs, Tensor[] ups, "
      "int[] low_starts, Tensor[] biases, int[] activations, Tensor[] gates, "
      "Tensor[] residuals, Tensor(a!)[] out) -> ()");
  m.def(
      "linear24(Tensor x, Tensor weight, Tensor? bias=None, Tensor? lora_down=None, "
      "Tensor? lora_up=None, bool norm=True) -> Tensor");
  m.def(
      "residual_norm(Tensor x, Tensor? y=None, Tensor? gate=None, bool tanh_gate=False, "
      "Tensor? post_weight=None, float post_eps=1e-06, str norm='layer', float eps=1e-06, "
      "Tensor? weight=None, Tensor? scale=None, Tensor? shift=None, bool want_normed=False) -> "
      "(Tensor h, Tensor moments, Tensor normed)");
  m.def(
      "head_norm(Tensor[] q, Tensor[] k, Tensor[] v, Tensor[] q_weights, Tensor[] k_weights, "
      "Tensor? rotation, int head_dim, float eps=1e-06) -> (Tensor q, Tensor k, Tensor v)");
  m.def("swiglu(Tensor gate, Tensor up) -> Tensor");
  m.def(
      "choose_product(int tokens, int outputs, int channels, int rank, int compute_capability, "
      "int multiprocessors, int shared_bytes) -> (bool sparse, float dense_us, float sparse_us, "
      "str reason)");
  m.def("solve_damped(Tensor a, Tensor b, float damping) -> Tensor");
  m.def("closest_low_rank(Tensor matrix, Tensor moment, int rank) -> (Tensor down, Tensor up)");
  m.def(
      "low_rank_on_input(Tensor xx, Tensor xs, Tensor weight, int rank, float damping) -> "
      "(Tensor down, Tensor up)");
  m.def("refit(Tensor xs, Tensor ss, Tensor weight, float damping) -> Tensor");
  m.def(
      "recovery(Tensor xx, Tensor xs, Tensor ss, float damping) -> (Tensor map, Tensor residual)");
  m.def(
      "refit_with_low_rank(Tensor xx, Tensor xs, Tensor ss, Tensor weight, int rank, "
      "float damping) -> (Tensor weight, Tensor down, Tensor up)");
  m.def("block_transform(Tensor moment, Tensor[] weights, int block) -> Tensor");
  m.def("add_to_revision(int state, str name, Tensor values) -> int");
}
