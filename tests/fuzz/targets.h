// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

// One function per parser of untrusted bytes. It accepts any input: rtlynx::Error is caught, and a
// broken promise of the parser aborts. Each has a folder of its name in corpus/.
namespace rtlynx::fuzz {

void safetensors(std::span<const std::byte> input);
void json(std::span<const std::byte> input);
void png_texts(std::span<const std::byte> input);
void token_files(std::span<const std::byte> input);  // vocabulary, merges, config; NUL between
void byte_pair(std::span<const std::byte> input);    // merges, prompt; NUL between
void t5_model(std::span<const std::byte> input);
void compensation(std::span<const std::byte> input);  // in builds with torch

}  // namespace rtlynx::fuzz
