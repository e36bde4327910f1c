// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/sentencepiece_model.h"

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/text.h"

namespace rtlynx {
namespace {

// Fields of sentencepiece_model.proto.
constexpr std::uint64_t kTrainerSpec = 2, kNormalizerSpec = 3, kDenormalizerSpec = 5;
constexpr std::uint64_t kModelType = 3;         // of the trainer's
constexpr std::uint64_t kReplacementTable = 2;  // of a normalizer's, precompiled_charsmap
constexpr std::uint64_t kUnigram = 1;

/// One field of a protocol buffer message: a number, or bytes.
struct Field {
  std::uint64_t tag = 0;
  std::uint64_t number = 0;
  std::string_view bytes;
};

/// Reads a message field by field.
class MessageReader {
 public:
  MessageReader(std::string_view message, std::string_view where) : rest_(message), where_(where) {}

  bool done() const { return rest_.empty(); }

  Field next() {
    const std::uint64_t key = varint();
    Field field{.tag = key >> 3};
    switch (key & 7) {
      case 0:
        field.number = varint();
        break;
      case 1:
        field.bytes = take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.bytes = take(4);
        break;
      default:
        damaged();
    }
    return field;
  }

 private:
  [[noreturn]] void damaged() const { fail(where_, "a SentencePiece model", "other or cut bytes"); }

  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) damaged();
    const std::string_view bytes = rest_.substr(0, static_cast<std::size_t>(size));
    rest_.remove_prefix(bytes.size());
    return bytes;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }

  std::string_view rest_;
  std::string_view where_;
};

/// A node of a double-array trie, as the library Darts-clone packs it into 32 bits.
struct TrieNode {
  std::uint32_t bits = 0;

  std::uint32_t label() const { return bits & (0x80000000u | 0xff); }
  bool has_value() const { return (bits >> 8 & 1) != 0; }
  std::uint32_t value() const { return bits & 0x7fffffffu; }
  std::uint32_t offset() const { return bits >> 10 << ((bits & (1u << 9)) >> 6); }
};

std::uint32_t load_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;  // the format is little-endian, like the machines that rtlynx builds for
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

/// Follows every path that some text could take through the trie, and what it ends in.
class TableChecker {
 public:
  TableChecker(std::string_view trie, std::string_view replacements, std::string_view where)
      : nodes_(trie.size() / sizeof(std::uint32_t)), replacements_(replacements), where_(where) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      nodes_[i].bits = load_u32(trie, i * sizeof(std::uint32_t));
    }
  }

  void check() {
    std::vector<bool> seen(nodes_.size());
    std::vector<std::size_t> open = {0};
    while (!open.empty()) {
      const std::size_t at = open.back();
      open.pop_back();
      const std::size_t base = at ^ nodes_[at].offset();
      // Whatever byte comes next, its node is inside.
      if ((base | 0xff) >= nodes_.size()) damaged();
      if (at != 0 && nodes_[at].has_value()) check_replacement(nodes_[base].value());
      for (std::uint32_t byte = 0; byte < 256; ++byte) {
        const std::size_t child = base ^ byte;
        if (nodes_[child].label() != byte || seen[child]) continue;
        seen[child] = true;
        open.push_back(child);
      }
    }
  }

 private:
  [[noreturn]] void damaged() const {
    fail(where_, "a table of replacements that stays within its bounds", "another");
  }

  /// A replacement is UTF-8 that ends with a NUL.
  void check_replacement(std::uint32_t begin) const {
    if (begin >= replacements_.size()) damaged();
    const std::size_t end = replacements_.find('\0', begin);
    if (end == std::string_view::npos || !is_utf8(replacements_.substr(begin, end - begin))) {
      damaged();
    }
  }

  std::vector<TrieNode> nodes_;
  std::string_view replacements_;
  std::string_view where_;
};

/// The size of the trie in bytes, the trie, then the replacements.
void check_table(std::string_view table, std::string_view where) {
  if (table.empty()) return;
  const bool has_size = table.size() > sizeof(std::uint32_t);
  const std::size_t trie_bytes = has_size ? load_u32(table, 0) : 0;
  const std::string_view rest = has_size ? table.substr(sizeof(std::uint32_t)) : table;
  if (trie_bytes == 0 || trie_bytes % sizeof(std::uint32_t) != 0 || trie_bytes >= rest.size()) {
    fail(where, "a table of replacements with its sizes", "another");
  }
  TableChecker(rest.substr(0, trie_bytes), rest.substr(trie_bytes), where).check();
}

void check_normalizer(std::string_view spec, std::string_view where) {
  for (MessageReader reader(spec, where); !reader.done();) {
    const Field field = reader.next();
    if (field.tag == kReplacementTable) check_table(field.bytes, where);
  }
}

void check_trainer(std::string_view spec, std::string_view where) {
  for (MessageReader reader(spec, where); !reader.done();) {
    const Field field = reader.next();
    if (field.tag == kModelType && field.number != kUnigram) {
      fail(where, "a unigram model", "model type " + std::to_string(field.number));
    }
  }
}

}  // namespace

void check_sentencepiece_model(std::string_view model, std::string_view where) {
  for (MessageReader reader(model, where); !reader.done();) {
    const Field field = reader.next();
    if (field.tag == kTrainerSpec) check_trainer(field.bytes, where);
    if (field.tag == kNormalizerSpec || field.tag == kDenormalizerSpec) {
      check_normalizer(field.bytes, where);
    }
  }
}

}  // namespace rtlynx
