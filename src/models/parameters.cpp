// SPDX-License-Identifier: Apache-2.0
#include "models/parameters.h"

#include <set>
#include <sstream>

#include "base/error.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

std::string shape_text(torch::IntArrayRef shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}

bool is_floating(TensorDtype dtype) {
  const auto type = scalar_type_of(dtype);
  return type && at::isFloatingType(*type);
}

}  // namespace

void load_parameters(torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem) {
  const torch::NoGradGuard no_grad;
  const SafetensorsModel file = SafetensorsModel::open(folder, stem);
  std::set<std::string> unused(file.names().begin(), file.names().end());
  for (auto& item : module.named_parameters()) {
    const std::string& name = item.key();
    torch::Tensor parameter = item.value();
    if (!file.contains(name)) {
      fail(folder.string() + ", tensor " + name, "shape " + shape_text(parameter.sizes()),
           "no such tensor in any of its files");
    }
    const std::string where = file.file_with(name).path().string() + ", tensor " + name;
    const TensorEntry& entry = file.entry(name);
    if (!is_floating(entry.dtype)) {
      fail(where, "a floating-point type", std::string(dtype_name(entry.dtype)));
    }
    if (parameter.sizes() != torch::IntArrayRef(entry.shape)) {
      fail(where, "shape " + shape_text(parameter.sizes()), shape_text(entry.shape));
    }
    parameter.copy_(copy_to_tensor(entry, where));
    unused.erase(name);
  }
  if (!unused.empty()) {
    const std::string& name = *unused.begin();
    fail(file.file_with(name).path().string() + ", tensor " + printable(name),
         "only tensors of the model that config.json describes",
         std::to_string(unused.size()) + " more");
  }
}

void save_parameters(const torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem, torch::ScalarType dtype,
                     std::size_t max_shard_bytes) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& item : module.named_parameters()) tensors.emplace_back(item.key(), item.value());
  const TensorBytes bytes(tensors, dtype);
  write_safetensors_sharded(folder, stem, bytes.entries(), max_shard_bytes, {{"format", "pt"}});
}

}  // namespace rtlynx
