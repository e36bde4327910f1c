// SPDX-License-Identifier: Apache-2.0
#include "models/parameters.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string_view>

#include "base/error.h"
#include "io/file_kind.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "layers/finite.h"
#include "models/device_memory.h"
#include "models/tensor_bytes.h"
#include "models/tensor_stream.h"

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

/// The prefix with which one of the parameters is in the file, or the first.
std::string prefix_in(const SafetensorsModel& file, const std::vector<std::string>& prefixes,
                      const torch::nn::Module& module) {
  const auto parameters = module.named_parameters();
  for (const std::string& prefix : prefixes) {
    for (const auto& item : parameters) {
      if (file.contains(prefix + item.key())) return prefix;
    }
  }
  return prefixes.front();
}

bool is_ignored(const std::string& name, const std::string& prefix,
                const std::vector<std::string>& ignored) {
  const auto matches = [&](std::string_view known, std::string_view pattern) {
    return pattern.ends_with('.') ? known.starts_with(pattern) : known == pattern;
  };
  const std::string_view whole = name;
  const std::string_view bare = whole.starts_with(prefix) ? whole.substr(prefix.size()) : whole;
  return std::any_of(ignored.begin(), ignored.end(), [&](const std::string& pattern) {
    return matches(whole, pattern) || matches(bare, pattern);
  });
}

/// A checkpoint seen to hold exactly the parameters of a module.
struct Checked {
  SafetensorsModel file;
  std::map<std::string, torch::Tensor> parameters;  // by their names in the file
  std::uint64_t stored_bytes = 0;
};

/// The shape of the value that a stored tensor makes.
std::vector<std::int64_t> made_shape(const TensorEntry& entry, const std::string& name,
                                     const StoredTensors& stored) {
  if (!stored.convert) return entry.shape;
  return stored.convert(name, torch::empty(entry.shape, torch::kMeta)).sizes().vec();
}

void check_entry(const SafetensorsModel& file, const std::string& name,
                 const torch::Tensor& parameter, const StoredTensors& stored) {
  const std::string where = file.file_with(name).path().string() + ", tensor " + name;
  const TensorEntry& entry = file.entry(name);
  if (!is_floating(entry.dtype)) {
    fail(where, "a floating-point type", std::string(dtype_name(entry.dtype)));
  }
  if (parameter.sizes() != made_shape(entry, name, stored)) {
    fail(where, "shape " + shape_text(parameter.sizes()), shape_text(entry.shape));
  }
}

Checked check(const torch::nn::Module& module, const std::filesystem::path& folder,
              const std::string& stem, const StoredTensors& stored) {
  Checked checked{.file = SafetensorsModel::open(folder, stem), .parameters = {}};
  const SafetensorsModel& file = checked.file;
  const std::string prefix = prefix_in(file, stored.prefixes, module);
  std::set<std::string> unused(file.names().begin(), file.names().end());
  refuse_foreign_form(file);
  for (const auto& item : module.named_parameters()) {
    const std::string name = prefix + item.key();
    if (!file.contains(name)) {
      fail(folder.string() + ", tensor " + name, "shape " + shape_text(item.value().sizes()),
           "no such tensor in any of its files");
    }
    check_entry(file, name, item.value(), stored);
    checked.parameters.emplace(name, item.value());
    checked.stored_bytes += file.entry(name).bytes.size();
    unused.erase(name);
  }
  std::erase_if(unused,
                [&](const std::string& name) { return is_ignored(name, prefix, stored.ignored); });
  if (!unused.empty()) {
    const std::string& name = *unused.begin();
    fail(file.file_with(name).path().string() + ", tensor " + printable(name),
         "only tensors of the model that config.json describes",
         std::to_string(unused.size()) + " more");
  }
  return checked;
}

bool is_outline(const torch::nn::Module& module) {
  const auto parameters = module.parameters();
  return !parameters.empty() && parameters.front().is_meta();
}

/// For a parameter that is made of the stored tensor as a whole.
void fill_converted(torch::Tensor parameter, const SafetensorsFile& file, const std::string& name,
                    const StoredTensors& stored) {
  const std::string where = file.path().string() + ", tensor " + name;
  parameter.copy_(stored.convert(name, copy_to_tensor(file.entry(name), where)));
  require_finite(parameter, where);  // as it will be used: a conversion may overflow
}

}  // namespace

void load_parameters(torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem, const StoredTensors& stored,
                     const LoadProgress& on_progress) {
  const torch::NoGradGuard no_grad;
  const Checked checked = check(module, folder, stem, stored);
  if (is_outline(module)) return;
  std::uint64_t finished = 0;
  const auto on_read = [&](std::size_t bytes) {
    finished += bytes;
    if (on_progress) on_progress(finished, checked.stored_bytes);
  };
  std::map<torch::DeviceType, TensorStream> streams;
  // In the order of the bytes, not of the module: files are read from their beginning to their end.
  for (const std::string& name : checked.file.names()) {
    const auto found = checked.parameters.find(name);
    if (found == checked.parameters.end()) continue;
    const torch::Tensor& parameter = found->second;
    const SafetensorsFile& file = checked.file.file_with(name);
    if (stored.convert) {
      fill_converted(parameter, file, name, stored);
      on_read(file.entry(name).bytes.size());
    } else {
      const torch::Device device = parameter.device();
      streams.try_emplace(device.type(), device, on_read).first->second.fill(parameter, file, name);
    }
  }
  for (auto& [type, stream] : streams) stream.finish();
}

void check_parameters(const torch::nn::Module& module, torch::Device device,
                      const std::filesystem::path& folder, const std::string& stem,
                      const StoredTensors& stored) {
  check(module, folder, stem, stored);
  if (device.is_meta()) return;
  std::uint64_t bytes = TensorStream::kBufferBytes;
  for (const torch::Tensor& parameter : module.parameters()) bytes += parameter.nbytes();
  require_memory("load " + printable(folder.string()), bytes, device);
  if (!device.is_cpu()) {
    require_memory("load " + printable(folder.string()), TensorStream::kBufferBytes, torch::kCPU);
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
