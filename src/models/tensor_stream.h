// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "io/safetensors.h"

namespace rtlynx {

/// Fills tensors on one device from files, a piece at a time, converted to the tensors' type on the
/// way. To a GPU a piece travels from one of two page-locked buffers while the next one is read
/// into the other, and is converted there; on the host it is read in place where no conversion is
/// needed. Whatever the size of the files, the host holds two pieces.
class TensorStream {
 public:
  static constexpr std::size_t kPieceBytes = std::size_t{64} << 20;
  /// Of buffers: on the host, and on a GPU where types differ.
  static constexpr std::size_t kBufferBytes = 2 * kPieceBytes;

  /// `on_read` gets the bytes of each piece.
  TensorStream(torch::Device device, std::function<void(std::size_t bytes)> on_read);
  ~TensorStream();
  TensorStream(const TensorStream&) = delete;
  TensorStream& operator=(const TensorStream&) = delete;

  /// `target`, contiguous, on the stream's device and of as many values as the tensor of the file.
  void fill(const torch::Tensor& target, const SafetensorsFile& file, const std::string& name);

  /// Waits until everything has arrived. Throws Error naming file and tensor for values that are
  /// not finite as the targets hold them: a conversion may overflow.
  void finish();

 private:
  struct Buffer;
  struct Filled {
    torch::Tensor target;
    std::string where;
    std::vector<torch::Tensor> finite;  // of each piece, one bool on the device
  };

  std::span<std::byte> wait_for_buffer(Buffer& buffer, std::size_t bytes);
  void send(Buffer& buffer, const torch::Tensor& piece, torch::ScalarType stored);

  torch::Device device_;
  std::function<void(std::size_t)> on_read_;
  std::vector<Buffer> buffers_;
  std::size_t turn_ = 0;
  std::vector<Filled> filled_;
};

}  // namespace rtlynx
