// SPDX-License-Identifier: Apache-2.0
#include "models/parameters.h"

#include <set>
#include <sstream>

#include "base/error.h"
#include "io/file_kind.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "layers/finite.h"
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

// A form that is not read has names of its own; they say more than the first that is missing.
void refuse_foreign_form(const SafetensorsModel& file) {
  for (const std::string& name : file.names()) {
    if (const auto form = describe_foreign_tensor(name)) {
      fail(file.file_with(name).path().string() + ", tensor " + printable(name),
           "weights as diffusers saves them", *form);
    }
  }
}

}  // namespace

void load_parameters(torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem) {
  const torch::NoGradGuard no_grad;
  const SafetensorsModel file = SafetensorsModel::open(folder, stem);
  std::set<std::string> unused(file.names().begin(), file.names().end());
  refuse_foreign_form(file);
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
    require_finite(parameter, where);  // as it will be used: a conversion may overflow
    unused.erase(name);
  }
  if (!unused.empty()) {
    const std::string& name = *unused.begin();
    fail(file.file_with(name).path().string() + ", tensor " + printable(name),
         "only tensors of the model that config.json describes",
         std::to_string(unused.size()) + " more");
  }
}

void stage_parameters(const torch::nn::Module& module, const std::filesystem::path& folder,
                      const std::string& stem, torch::ScalarType dtype, std::size_t max_shard_bytes,
                      FileSet& files) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& item : module.named_parameters()) {
    tensors.emplace_back(item.key(), item.value().detach().to(torch::kCPU, dtype));
    require_finite(tensors.back().second, "write " + folder.string() + ", tensor " + item.key());
  }
  const TensorBytes bytes(tensors);
  stage_safetensors_sharded(folder, stem, bytes.entries(), max_shard_bytes, {{"format", "pt"}},
                            files);
}

void save_parameters(const torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem, torch::ScalarType dtype,
                     std::size_t max_shard_bytes) {
  FileSet files;
  stage_parameters(module, folder, stem, dtype, max_shard_bytes, files);
  files.commit();
}

}  // namespace rtlynx
