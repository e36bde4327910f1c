// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/t5_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "io/text.h"
#include "models/tokenizers/sentencepiece_model.h"
#include "models/tokenizers/unicode.h"

namespace rtlynx {
namespace {

using sentencepiece::SentencePieceProcessor;

constexpr std::size_t kMaxModelBytes = std::size_t{64} << 20;

/// Calls `act`, which uses the library, and turns what it throws and returns into an Error.
template <typename Act>
void guarded(Act&& act, std::string_view where, std::string_view required) {
  try {
    const sentencepiece::util::Status status = act();
    if (!status.ok()) fail(where, required, printable(status.error_message()));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail(where, required, printable(error.what()));
  }
}

std::unique_ptr<SentencePieceProcessor> load(std::string_view model, std::string_view where) {
  check_sentencepiece_model(model, where);
  auto processor = std::make_unique<SentencePieceProcessor>();
  guarded(
      [&] {
        return processor->LoadFromSerializedProto({model.data(), model.size()});
      },
      where, "a SentencePiece model");
  for (const int id : {processor->pad_id(), processor->eos_id(), processor->unk_id()}) {
    require(id >= 0, where, "tokens for padding, the end and the unknown", "a model without one");
  }
  return processor;
}

/// Throws Error for an added token that has the id of another piece.
void check_added(const SentencePieceProcessor& processor, const std::vector<AddedToken>& tokens,
                 std::string_view where) {
  for (const AddedToken& token : tokens) {
    if (token.id >= processor.GetPieceSize()) continue;
    const std::string& piece = processor.IdToPiece(static_cast<int>(token.id));
    if (piece == token.text) continue;
    fail(std::string(where) + ", added token " + in_quotes(token.text),
         "an id that is not the model's own", std::to_string(token.id) + " of " + in_quotes(piece));
  }
}

/// `text` with spaces for U+0085, which is white space to transformers; the model's own
/// normalization does not know it.
std::string with_plain_next_line(std::string_view text) {
  constexpr std::string_view kNextLine = "\xc2\x85";
  std::string result(text);
  for (auto at = result.find(kNextLine); at != std::string::npos; at = result.find(kNextLine, at)) {
    // Two for its two bytes: a run of spaces is one to the model.
    result[at] = result[at + 1] = ' ';
  }
  return result;
}

}  // namespace

T5Tokenizer::T5Tokenizer(const std::filesystem::path& folder)
    : T5Tokenizer(read_file(folder / "spiece.model", kMaxModelBytes),
                  read_added_tokens(folder, "T5Tokenizer"),
                  printable((folder / "spiece.model").string())) {}

T5Tokenizer::T5Tokenizer(std::string_view model, std::vector<AddedToken> added,
                         std::string_view where)
    : processor_(load(model, where)), splitter_(added), id_limit_(processor_->GetPieceSize()) {
  check_added(*processor_, added, where);
  for (const AddedToken& token : added) id_limit_ = std::max(id_limit_, token.id + 1);
}

T5Tokenizer::~T5Tokenizer() = default;
T5Tokenizer::T5Tokenizer(T5Tokenizer&&) noexcept = default;

std::vector<std::int64_t> T5Tokenizer::encode(std::string_view text) const {
  require_utf8(text);
  std::vector<std::int64_t> ids;
  splitter_.split(
      text,
      [&](std::string_view part) {
        std::vector<int> pieces;
        guarded([&] { return processor_->Encode(with_plain_next_line(part), &pieces); },
                "T5 tokenizer", "text that it can encode");
        ids.insert(ids.end(), pieces.begin(), pieces.end());
      },
      [&](std::int64_t id) { ids.push_back(id); });
  return ids;
}

std::int64_t T5Tokenizer::end_id() const { return processor_->eos_id(); }
std::int64_t T5Tokenizer::padding_id() const { return processor_->pad_id(); }

}  // namespace rtlynx
