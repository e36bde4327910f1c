// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/byte_pair.h"

#include <queue>
#include <string>

#include "base/error.h"
#include "io/text.h"

namespace rtlynx {
namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

std::uint64_t pair_key(std::int64_t left, std::int64_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
}

bool prints(int byte) { return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad); }

std::int64_t required_id(const TokenIds& ids, const std::string& token, std::string_view where) {
  const auto found = ids.find(token);
  if (found == ids.end()) fail(where, "token " + in_quotes(token) + " in the vocabulary", "none");
  return found->second;
}

/// A symbol of the word and its neighbours; a joined one lives on in the left one.
struct Symbol {
  std::int64_t id = 0;
  std::size_t previous = kNone;
  std::size_t next = kNone;
};

/// A pair of neighbours that may be joined: the lowest rank first, of equal ones the leftmost.
struct Candidate {
  std::size_t rank = 0;
  std::size_t left = 0;
  std::int64_t left_id = 0, right_id = 0;
  std::int64_t result = 0;

  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

}  // namespace

std::string byte_symbol(unsigned char byte) {
  unsigned letter = byte;
  if (!prints(byte)) {
    letter = 0x100;
    for (int lower = 0; lower < byte; ++lower) letter += prints(lower) ? 0 : 1;
  }
  if (letter < 0x80) return std::string(1, static_cast<char>(letter));
  return {static_cast<char>(0xc0 | letter >> 6), static_cast<char>(0x80 | (letter & 0x3f))};
}

BytePairEncoder::BytePairEncoder(const TokenIds& ids, const Merges& merges, std::string_view suffix,
                                 std::string_view where) {
  for (std::size_t byte = 0; byte < inner_.size(); ++byte) {
    const std::string symbol = byte_symbol(static_cast<unsigned char>(byte));
    inner_[byte] = required_id(ids, symbol, where);
    last_[byte] = required_id(ids, symbol + std::string(suffix), where);
  }
  joins_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const std::int64_t left_id = required_id(ids, left, where);
    const std::int64_t right_id = required_id(ids, right, where);
    const Join join{.rank = rank, .result = required_id(ids, left + right, where)};
    if (!joins_.emplace(pair_key(left_id, right_id), join).second) {
      fail(where, "each merge once", in_quotes(left + " " + right) + " twice");
    }
  }
}

const BytePairEncoder::Join* BytePairEncoder::join_of(std::int64_t left, std::int64_t right) const {
  const auto found = joins_.find(pair_key(left, right));
  return found == joins_.end() ? nullptr : &found->second;
}

void BytePairEncoder::encode(std::string_view word, std::vector<std::int64_t>& ids) const {
  if (word.empty()) return;
  std::vector<Symbol> symbols(word.size());
  for (std::size_t i = 0; i < word.size(); ++i) {
    const bool ends = i + 1 == word.size();
    const auto byte = static_cast<unsigned char>(word[i]);
    symbols[i] = {.id = ends ? last_[byte] : inner_[byte],
                  .previous = i == 0 ? kNone : i - 1,
                  .next = ends ? kNone : i + 1};
  }

  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](std::size_t left) {
    if (left == kNone || symbols[left].next == kNone) return;
    const std::int64_t left_id = symbols[left].id;
    const std::int64_t right_id = symbols[symbols[left].next].id;
    if (const Join* join = join_of(left_id, right_id)) {
      queue.push({.rank = join->rank,
                  .left = left,
                  .left_id = left_id,
                  .right_id = right_id,
                  .result = join->result});
    }
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) offer(i);

  constexpr std::int64_t kJoined = -1;
  while (!queue.empty()) {
    const Candidate pair = queue.top();
    queue.pop();
    Symbol& left = symbols[pair.left];
    // A pair of which one part has been joined with another since it was offered is void.
    if (left.id != pair.left_id || left.next == kNone || symbols[left.next].id != pair.right_id) {
      continue;
    }
    Symbol& right = symbols[left.next];
    left.id = pair.result;
    left.next = right.next;
    right.id = kJoined;
    if (left.next != kNone) symbols[left.next].previous = pair.left;
    offer(left.previous);
    offer(pair.left);
  }
  for (std::size_t i = 0; i != kNone; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace rtlynx
