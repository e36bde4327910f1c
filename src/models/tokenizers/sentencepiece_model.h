// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace rtlynx {

/// Throws Error, naming `where`, for a SentencePiece model that libsentencepiece would follow out
/// of its bounds: it trusts the tables of replacements that a file brings along. Also for a model
/// that is not of the unigram kind.
void check_sentencepiece_model(std::string_view model, std::string_view where);

}  // namespace rtlynx
