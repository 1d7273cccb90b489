// Encodes one segment, the text between added tokens.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/bpe.h"
#include "data/tokenizer/definition.h"
#include "data/tokenizer/split_pattern.h"
#include "data/tokenizer/word_cache.h"
#include "phi3tune/data/tokenizer.h"

namespace phi3tune::data {

// Memory of one thread.
struct EncodeWorkspace {
  Bpe::Workspace bpe;
  WordCache cache;
  SplitPattern::Scratch pattern;
  std::vector<Symbol> symbols;
  std::vector<Range> ranges;
  std::vector<Range> cut_ranges;
  std::vector<Range> matches;
  std::string text;
};

class SegmentEncoder {
 public:
  virtual ~SegmentEncoder() = default;
  // Appends the tokens of text[begin, end), a segment that is not empty; offsets are into `text`. Thread-safe with one
  // workspace a thread.
  virtual void encode(std::string_view text, size_t begin, size_t end, EncodeWorkspace& workspace,
                      std::vector<TokenSpan>& out) const = 0;
};

// Takes what it needs out of the definition: merges and splits (the vocabulary is read, and must outlive it).
std::unique_ptr<SegmentEncoder> make_sentencepiece_encoder(TokenizerDefinition& definition);
std::unique_ptr<SegmentEncoder> make_byte_level_encoder(TokenizerDefinition& definition);

// Appends `symbols` as tokens that follow each other from `begin`.
void append_symbols(const Symbol* symbols, size_t count, size_t begin, std::vector<TokenSpan>& out);

}  // namespace phi3tune::data
