// SPDX-License-Identifier: Apache-2.0
#include "models/tensor_stream.h"

#include <ATen/Parallel.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "layers/finite.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

/// Several reads at once: one thread copies from the page cache at a fraction of memory's speed.
void read_in_parallel(const SafetensorsFile& file, const std::string& name, std::uint64_t first,
                      std::span<std::byte> into) {
  constexpr std::int64_t kGrain = std::int64_t{4} << 20;
  at::parallel_for(0, std::ssize(into), kGrain, [&](std::int64_t begin, std::int64_t end) {
    const auto from = static_cast<std::size_t>(begin);
    file.read(name, first + from, into.subspan(from, static_cast<std::size_t>(end - begin)));
  });
}

/// The first bytes of a buffer as values.
torch::Tensor as_values(const torch::Tensor& buffer, std::int64_t count, torch::ScalarType type) {
  return buffer.narrow(0, 0, count * static_cast<std::int64_t>(c10::elementSize(type))).view(type);
}

}  // namespace

struct TensorStream::Buffer {
  torch::Tensor host;       // uint8
  torch::Tensor on_device;  // the same, where types differ
  std::optional<c10::Event> sent;
};

TensorStream::TensorStream(torch::Device device, std::function<void(std::size_t)> on_read)
    : device_(device), on_read_(std::move(on_read)), buffers_(2) {}

TensorStream::~TensorStream() = default;

std::span<std::byte> TensorStream::wait_for_buffer(Buffer& buffer, std::size_t bytes) {
  const auto size = static_cast<std::int64_t>(kPieceBytes);
  if (!buffer.host.defined()) {
    buffer.host =
        torch::empty({size}, torch::TensorOptions(torch::kUInt8).pinned_memory(!device_.is_cpu()));
    if (!device_.is_cpu()) buffer.sent.emplace(device_.type());
  }
  if (buffer.sent) buffer.sent->synchronize();
  return {static_cast<std::byte*>(buffer.host.mutable_data_ptr()), bytes};
}

void TensorStream::send(Buffer& buffer, const torch::Tensor& piece, torch::ScalarType stored) {
  const torch::Tensor read = as_values(buffer.host, piece.numel(), stored);
  if (device_.is_cpu()) {
    piece.copy_(read);
    return;
  }
  if (stored == piece.scalar_type()) {
    piece.copy_(read, /*non_blocking=*/true);
  } else {
    // torch would convert on the host, into memory that is not page-locked.
    if (!buffer.on_device.defined()) {
      buffer.on_device =
          torch::empty(buffer.host.sizes(), torch::TensorOptions(torch::kUInt8).device(device_));
    }
    const torch::Tensor arrived = as_values(buffer.on_device, piece.numel(), stored);
    arrived.copy_(read, /*non_blocking=*/true);
    piece.copy_(arrived);
  }
  buffer.sent->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
}

void TensorStream::fill(const torch::Tensor& target, const SafetensorsFile& file,
                        const std::string& name) {
  const TensorEntry& entry = file.entry(name);
  const std::string where = file.path().string() + ", tensor " + name;
  const auto known = scalar_type_of(entry.dtype);
  if (!known) fail(where, "a type that torch has", std::string(dtype_name(entry.dtype)));
  const torch::ScalarType stored = *known;
  const auto bytes_each = static_cast<std::int64_t>(c10::elementSize(stored));
  const torch::Tensor flat = target.view({-1});
  const auto piece_values = static_cast<std::int64_t>(kPieceBytes) / bytes_each;
  const bool in_place = device_.is_cpu() && stored == target.scalar_type();
  Filled filled{.target = target, .where = where, .finite = {}};
  for (std::int64_t first = 0; first < flat.numel(); first += piece_values) {
    const std::int64_t count = std::min(piece_values, flat.numel() - first);
    const auto bytes = static_cast<std::size_t>(count * bytes_each);
    const torch::Tensor piece = flat.narrow(0, first, count);
    const auto offset = static_cast<std::uint64_t>(first * bytes_each);
    if (in_place) {
      read_in_parallel(file, name, offset,
                       {static_cast<std::byte*>(piece.mutable_data_ptr()), bytes});
    } else {
      Buffer& buffer = buffers_[turn_++ % buffers_.size()];
      read_in_parallel(file, name, offset, wait_for_buffer(buffer, bytes));
      send(buffer, piece, stored);
    }
    filled.finite.push_back(piece.isfinite().all());
    on_read_(bytes);
  }
  filled_.push_back(std::move(filled));
}

void TensorStream::finish() {
  // On a GPU the first item() waits for all that was sent.
  for (const Filled& filled : std::exchange(filled_, {})) {
    const bool finite = std::ranges::all_of(
        filled.finite, [](const torch::Tensor& of_piece) { return of_piece.item<bool>(); });
    if (!finite) require_finite(filled.target, filled.where);
  }
  buffers_.clear();
}

}  // namespace rtlynx
