// SPDX-License-Identifier: Apache-2.0
//
// replay_corpus <corpus folder>: gives every file of the corpus to its target, without libFuzzer,
// so that what was found once is checked by every compiler.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <string>

#include "io/file.h"
#include "targets.h"

namespace {

struct Target {
  const char* name;
  void (*run)(std::span<const std::byte>);
};

constexpr Target kTargets[] = {
    {"safetensors", rtlynx::fuzz::safetensors},   {"json", rtlynx::fuzz::json},
    {"token_files", rtlynx::fuzz::token_files},   {"byte_pair", rtlynx::fuzz::byte_pair},
    {"t5_model", rtlynx::fuzz::t5_model},
#if RTLYNX_FUZZ_WITH_TORCH
    {"compensation", rtlynx::fuzz::compensation},
#endif
    {"png_texts", rtlynx::fuzz::png_texts}};
constexpr std::size_t kMaxInputBytes = 1 << 20;

int replay(const Target& target, const std::filesystem::path& corpus) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus / target.name)) {
    const std::string input = rtlynx::read_file(entry.path(), kMaxInputBytes);
    std::printf("%s/%s\n", target.name, entry.path().filename().c_str());
    std::fflush(stdout);  // the last line names the culprit of a crash
    target.run(std::as_bytes(std::span(input)));
    ++count;
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: replay_corpus <corpus folder>\n");
    return 2;
  }
  try {
    for (const Target& target : kTargets) {
      if (replay(target, argv[1]) > 0) continue;
      std::fprintf(stderr, "replay_corpus: required inputs for %s, got none\n", target.name);
      return 1;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "replay_corpus: %s\n", error.what());
    return 1;
  }
  return 0;
}
