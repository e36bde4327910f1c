// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace rtlynx::test {

/// Why `xml` (elements, attributes and text; no comments or declarations) is not well-formed, or an
/// empty string.
class XmlReader {
 public:
  explicit XmlReader(std::string_view xml) : rest_(xml) {}

  std::string complaint() {
    while (complaint_.empty() && !rest_.empty()) {
      if (rest_.starts_with("</")) {
        read_end();
      } else if (rest_.front() == '<') {
        read_start();
      } else {
        read_text();
      }
    }
    if (complaint_.empty() && !open_.empty()) complaint_ = "not closed: " + open_.back();
    if (complaint_.empty() && roots_ != 1) complaint_ = "not one root";
    return complaint_;
  }

 private:
  std::string name() {
    std::string name;
    while (!rest_.empty() &&
           (std::isalnum(static_cast<unsigned char>(rest_.front())) != 0 ||
            std::string_view("-:_").find(rest_.front()) != std::string_view::npos)) {
      name += rest_.front();
      rest_.remove_prefix(1);
    }
    if (name.empty()) complaint_ = "no name before " + std::string(rest_.substr(0, 20));
    return name;
  }

  void expect(std::string_view text) {
    if (rest_.starts_with(text)) {
      rest_.remove_prefix(text.size());
    } else if (complaint_.empty()) {
      complaint_ = "no " + std::string(text) + " before " + std::string(rest_.substr(0, 20));
    }
  }

  void skip_space() {
    while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_.front())) != 0) {
      rest_.remove_prefix(1);
    }
  }

  void check_text(std::string_view text) {
    for (std::size_t i = text.find('&'); i != std::string_view::npos; i = text.find('&', i + 1)) {
      bool known = false;
      for (const char* entity : {"&amp;", "&lt;", "&gt;", "&quot;"}) {
        known = known || text.substr(i).starts_with(entity);
      }
      if (!known) complaint_ = "a bare & in " + std::string(text);
    }
    if (text.find('<') != std::string_view::npos) complaint_ = "a bare < in " + std::string(text);
  }

  void read_start() {
    rest_.remove_prefix(1);
    const std::string element = name();
    if (open_.empty()) ++roots_;
    for (skip_space();
         complaint_.empty() && !rest_.empty() && rest_.front() != '>' && rest_.front() != '/';
         skip_space()) {
      name();
      expect("=\"");
      const std::size_t end = rest_.find('"');
      if (end == std::string_view::npos) {
        complaint_ = "an attribute without end";
        return;
      }
      check_text(rest_.substr(0, end));
      rest_.remove_prefix(end + 1);
    }
    if (rest_.starts_with("/>")) {
      rest_.remove_prefix(2);
    } else {
      expect(">");
      open_.push_back(element);
    }
  }

  void read_end() {
    rest_.remove_prefix(2);
    const std::string element = name();
    expect(">");
    if (open_.empty() || open_.back() != element) {
      complaint_ = "closed without being open: " + element;
    } else {
      open_.pop_back();
    }
  }

  void read_text() {
    const std::size_t end = std::min(rest_.find('<'), rest_.size());
    check_text(rest_.substr(0, end));
    if (open_.empty() && rest_.substr(0, end).find_first_not_of("\n ") != std::string_view::npos) {
      complaint_ = "text outside of the root";
    }
    rest_.remove_prefix(end);
  }

  std::string_view rest_;
  std::string complaint_;
  std::vector<std::string> open_;
  int roots_ = 0;
};

}  // namespace rtlynx::test
