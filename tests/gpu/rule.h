// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "rtlynx/error.h"
#include "rtlynx/matrix.h"

/// Rules of the GPU headers, broken one by one. The addresses are not memory: had anything been
/// launched, the device would say so.
namespace rtlynx::testing {

inline void* address(std::uintptr_t value = 0x10000) { return reinterpret_cast<void*>(value); }
inline void* unaligned() { return address(0x10008); }
inline float* floats(void* pointer) { return static_cast<float*>(pointer); }

inline MatrixView somewhere(std::int64_t rows, std::int64_t columns) {
  return contiguous(address(), DType::bf16, rows, columns);
}

/// What breaks a good call, and a part of what is then required.
template <typename Call>
struct Rule {
  const char* name;
  std::function<void(Call&)> break_it;
  const char* required;
};

template <typename Call>
void expect_refused(const std::string& rule, const std::string& message, const Call& call) {
  using ::testing::HasSubstr;
  using ::testing::ThrowsMessage;
  EXPECT_THAT([&] { call(); }, ThrowsMessage<Error>(HasSubstr(message))) << rule;
}

template <typename Call>
void expect_all_refused(const std::vector<Rule<Call>>& rules, const std::string& op,
                        const Call& good = {}) {
  for (const auto& [name, break_it, required] : rules) {
    Call call = good;
    break_it(call);
    expect_refused(name, op + ": required", call);
    expect_refused(name, required, call);
  }
}

}  // namespace rtlynx::testing
