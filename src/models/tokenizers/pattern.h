// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>
#include <vector>

namespace rtlynx {

/// A regular expression (PCRE2's syntax, over code points with their Unicode properties) that cuts
/// text into pieces.
class Pattern {
 public:
  explicit Pattern(std::string_view expression);
  ~Pattern();
  Pattern(Pattern&&) noexcept;

  /// The matches in `text` (UTF-8) from left to right, without what lies between them.
  std::vector<std::string_view> matches(std::string_view text) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace rtlynx
