// SPDX-License-Identifier: Apache-2.0
#include "models/revision.h"

#include <cstddef>
#include <span>

#include "base/word_hash.h"
#include "io/file.h"

namespace rtlynx {
std::string weights_revision(const torch::nn::Module& model) {
  WordHash hash;
  for (const auto& item : model.named_parameters()) {
    const torch::Tensor values =
        item.value().detach().to(torch::kCPU, torch::kBFloat16).contiguous();
    hash.add(std::as_bytes(std::span(item.key())));
    hash.add(std::as_bytes(std::span(values.sizes().data(), values.sizes().size())));
    hash.add({static_cast<const std::byte*>(values.const_data_ptr()),
              static_cast<std::size_t>(values.nbytes())});
  }
  return hash.digits();
}

std::string file_revision(const std::filesystem::path& path) {
  const MappedFile file(path);
  WordHash hash;
  hash.add(file.bytes());
  return hash.digits();
}

}  // namespace rtlynx
