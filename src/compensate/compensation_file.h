// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/libtorch.h"
#include "layers/compensation24.h"
#include "layers/replacement.h"
#include "layers/sparse_linear.h"

namespace rtlynx {

/// A layer's compensation in a model: sparse activations, or, in a mixed choice, a replacement in
/// their place. Layers with one `input` share its transform.
struct LayerCompensation {
  std::string input;  ///< the input's group (models/shared_input.h); decides with a transform only
  Compensation24 values;
  std::optional<Replacement> replacement;  ///< `values` are not looked at
  std::string method;                      ///< such as "sparsegpt", for people, in a mixed choice
};

/// "activation 2:4", "weight 2:4" or "fixed choice".
std::string_view kind_of(const LayerCompensation& layer);

/// What `rtlynx calibrate` makes for one set of weights: the layers to sparsify, each with its
/// compensation. All other layers stay dense.
struct ModelCompensation {
  std::string base_model;     ///< the model's name, for people
  std::string base_revision;  ///< weights_revision of the model that it was made for
  std::string method;         ///< such as "joint", for people
  std::string transform;      ///< such as "block 64", for people
  std::string recipe;         ///< how the layers were chosen, for people
  std::int64_t rank = 0;      ///< of every low rank; 0 without
  std::map<std::string, LayerCompensation> layers;  ///< by layer name
};

/// The newest version of the format: 2 has replacements, 3 transforms without weights, 4 layers in
/// e4m3. A file is written as the oldest that can say it, which older readers know.
inline constexpr int kCompensationFormatVersion = 4;

/// Writes one safetensors file, atomically, all floating-point values as bf16:
///
///   rtlynx.<layer>.down [r, K]   rtlynx.<layer>.up [N, r]   rtlynx.<layer>.weight [N, K]
///   rtlynx.<input>.transform [K/g, g, g]   rtlynx.<input>.scale [K]   rtlynx.<input>.permutation
///
/// each where there is one; a transform once for all layers of its input. A layer with a transform
/// and no weight has W A^-T, computed when the file is applied. Metadata: format,
/// format_version, pattern, method, transform, recipe, rank, alpha (= rank; a reader multiplies
/// `up` by alpha / rank), base_model, base_revision, and targets, a JSON object
/// {"<layer>": {"norm": bool, "input": "<input>"}}.
///
/// Version 2 says of every target "kind" (kind_of) and "method" as well. Of a replacement
/// ("weight 2:4" or "fixed choice") there are, without norm, whichever of these it has:
///
///   rtlynx.<layer>.axes [K/g, g, h]   rtlynx.<layer>.weight [N, K] or [N, K h / g]   .down   .up
///
/// A fixed choice's low rank has a rank of its own, which alpha does not concern.
///
/// Version 4 says "values": "e4m3" of targets whose kept values and weight are rounded to it; the
/// tensors of the file are bf16 all the same.
///
/// It is no style LoRA, and no key says "lora", which diffusers' loaders look for.
void write_compensation(const std::filesystem::path& path, const ModelCompensation& compensation);

/// Reads such a file; tensors stay bf16. Throws Error that says what was required for anything
/// else: another format, a newer version, another pattern, a tensor that no target asks for, of
/// another type or rank, or with values that are not finite, and unknown metadata.
ModelCompensation read_compensation(const std::filesystem::path& path);

/// Sets a Linear to what `layer` says. Throws Error if it does not fit.
void apply_layer(SparseLinear& linear, const LayerCompensation& layer);

/// Sets the layers of `model` to it: those of `compensation` to `compensated` or `replaced`, all
/// others to `dense`. Throws Error, before anything is changed, if it was made for other weights,
/// or names layers or has shapes that the model does not have. `where` begins the message.
void apply_compensation(torch::nn::Module& model, const ModelCompensation& compensation,
                        const std::string& where);

}  // namespace rtlynx
