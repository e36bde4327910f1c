// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <system_error>

#include "compensate/compensation_file.h"
#include "promise.h"
#include "targets.h"

namespace rtlynx::fuzz {
namespace {

/// A file in memory, since the reader maps what it is given by name.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("input", 0)) {
    promise(descriptor_ >= 0, "a memory file");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    const auto size = static_cast<ssize_t>(bytes.size());
    const bool written = ftruncate(descriptor_, 0) == 0 &&
                         pwrite(descriptor_, bytes.data(), bytes.size(), 0) == size;
    promise(written, "a memory file takes the input");
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

bool is_finite(const torch::Tensor& tensor) {
  return !tensor.defined() || tensor.isfinite().all().item<bool>();
}

// What a layer of the shape that the tensors suggest would do with it.
void expect_layer_accepts_or_refuses(const Compensation24& values) {
  const bool has_weight = values.weight.defined() && values.weight.dim() == 2;
  const std::int64_t inputs = has_weight ? values.weight.size(1) : 4;
  const std::int64_t outputs = has_weight ? values.weight.size(0) : 4;
  expect_error_or_success([&] {
    values.check(inputs, outputs);
    const InputTransform& transform = values.transform;
    const torch::Tensor x = torch::ones({1, inputs}, torch::kBFloat16);
    promise(transform.apply(x).sizes() == x.sizes(), "a checked transform can be applied");
  });
}

void check_promises(const ModelCompensation& read) {
  promise(!read.layers.empty(), "a file has layers");
  for (const auto& [name, layer] : read.layers) {
    const Compensation24& values = layer.values;
    promise(values.down.defined() == values.up.defined(), "down and up come together");
    promise(!values.down.defined() || values.rank() == read.rank, "every low rank has the rank");
    for (const torch::Tensor& tensor :
         {values.down, values.up, values.weight, values.transform.blocks, values.transform.scale}) {
      promise(is_finite(tensor), "values are finite");
    }
    expect_layer_accepts_or_refuses(values);
  }
}

}  // namespace

void compensation(std::span<const std::byte> input) {
  static MemoryFile file;
  file.write(input);
  expect_error_or_success([&] { check_promises(read_compensation(file.path())); });
}

}  // namespace rtlynx::fuzz
