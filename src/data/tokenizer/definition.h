// What a tokenizer's files say, in one form: read from tokenizer.json or tokenizer.model, completed by
// tokenizer_config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer/bpe.h"
#include "data/tokenizer/split_pattern.h"
#include "data/tokenizer/vocabulary.h"
#include "phi3tune/data/tokenizer.h"

namespace phi3tune::data {

// Cuts every piece of text further, before the byte-level step.
struct SplitStep {
  enum class Kind { kPattern, kDigitRuns, kSingleDigits };
  Kind kind = Kind::kPattern;
  std::optional<SplitPattern> pattern;  // for kPattern
  bool keep_matches = true;
  bool keep_rest = true;
};

struct TokenizerDefinition {
  std::string file;  // the vocabulary's path, for errors

  Vocabulary vocabulary;
  MergeTable merges;
  bool joins_across_marks = false;  // some merge makes a piece with U+2581 after another character
  int32_t unk_id = -1;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;  // a word that is a piece is that piece

  // SentencePiece style: what is done to a segment before it is encoded.
  bool prepend_mark = false;     // U+2581 in front of every segment
  bool spaces_to_marks = false;  // every space becomes U+2581

  // Byte-level style.
  bool byte_level = false;
  std::vector<SplitStep> splits;
  bool add_prefix_space = false;
  bool gpt2_split = false;  // ByteLevel's use_regex

  // Decoder: byte-level, or marks to spaces, byte runs, and a leading space removed.
  bool decode_byte_level = false;
  bool decode_strips_space = false;

  std::vector<AddedToken> added;
  // First piece that the post-processor puts before a text, if it does.
  std::optional<std::string> post_processor_first;
};

// "▁", U+2581 in UTF-8.
inline constexpr std::string_view kMark = "\xE2\x96\x81";

}  // namespace phi3tune::data
