// A segment is cut into words by the tokenizer's patterns; the bytes of each word are the first symbols of its BPE.
#include <array>

#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/segment_encoder.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/unknown_run.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

class ByteLevelEncoder : public SegmentEncoder {
 public:
  explicit ByteLevelEncoder(TokenizerDefinition& definition)
      : vocabulary_(definition.vocabulary),
        bpe_(std::move(definition.merges)),
        splits_(std::move(definition.splits)),
        unk_id_(definition.unk_id),
        fuse_unk_(definition.fuse_unk),
        ignore_merges_(definition.ignore_merges),
        add_prefix_space_(definition.add_prefix_space) {
    if (definition.gpt2_split) {
      gpt2_.emplace(std::string(SplitPattern::gpt2()), "the GPT-2 split pattern");
    }
    for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      byte_ids_[byte] = vocabulary_.find(byte_characters()[byte]);
      if (byte_ids_[byte] < 0 && definition.byte_fallback) {
        throw ModelError("{}: model.vocab has no piece for byte 0x{:02X} ({}), and byte_fallback is not supported here",
                         definition.file, byte, byte_characters()[byte]);
      }
    }
  }

  void encode(std::string_view text, size_t begin, size_t end, EncodeWorkspace& workspace,
              std::vector<TokenSpan>& out) const override {
    auto& ranges = workspace.ranges;
    ranges.assign(1, {begin, end});
    for (const SplitStep& step : splits_) {
      workspace.cut_ranges.clear();
      for (const Range& range : ranges) {
        cut(text, range, step, workspace);
      }
      ranges.swap(workspace.cut_ranges);
    }
    for (const Range& range : ranges) {
      encode_piece(text.substr(range.begin, range.end - range.begin), range.begin, workspace, out);
    }
  }

 private:
  static void cut(std::string_view text, Range range, const SplitStep& step, EncodeWorkspace& workspace) {
    auto& out = workspace.cut_ranges;
    const std::string_view piece = text.substr(range.begin, range.end - range.begin);
    if (step.kind != SplitStep::Kind::kPattern) {
      cut_digits(piece, range.begin, step.kind == SplitStep::Kind::kSingleDigits, out);
      return;
    }
    workspace.matches.clear();
    step.pattern->find_all(piece, workspace.pattern, workspace.matches);
    size_t done = 0;
    const auto rest_until = [&](size_t place) {
      if (place > done && step.keep_rest) {
        out.push_back({range.begin + done, range.begin + place});
      }
    };
    for (const Range& match : workspace.matches) {
      rest_until(match.begin);
      if (step.keep_matches) {
        out.push_back({range.begin + match.begin, range.begin + match.end});
      }
      done = match.end;
    }
    rest_until(piece.size());
  }

  static void cut_digits(std::string_view piece, size_t begin, bool single, std::vector<Range>& out) {
    size_t start = 0;
    bool in_digits = false;
    for (size_t at = 0; at < piece.size();) {
      const size_t here = at;
      const bool digit = is_numeric(next_code_point(piece, at));
      if (here > start && (digit != in_digits || (digit && single))) {
        out.push_back({begin + start, begin + here});
        start = here;
      }
      in_digits = digit;
    }
    out.push_back({begin + start, begin + piece.size()});
  }

  // What the ByteLevel step does with a piece: a space in front, GPT-2's pattern.
  void encode_piece(std::string_view piece, size_t begin, EncodeWorkspace& workspace,
                    std::vector<TokenSpan>& out) const {
    const bool prefixed = add_prefix_space_ && piece.front() != ' ';
    if (!gpt2_) {
      encode_word(piece, prefixed, begin, workspace, out);
      return;
    }
    workspace.matches.clear();
    if (!prefixed) {
      gpt2_->find_all(piece, workspace.pattern, workspace.matches);
      for (const Range& match : workspace.matches) {
        encode_word(piece.substr(match.begin, match.end - match.begin), false, begin + match.begin, workspace, out);
      }
      return;
    }
    workspace.text.assign(1, ' ').append(piece);
    gpt2_->find_all(workspace.text, workspace.pattern, workspace.matches);
    for (const Range& match : workspace.matches) {
      const size_t first = match.begin == 0 ? 0 : match.begin - 1;
      encode_word(piece.substr(first, match.end - 1 - first), match.begin == 0, begin + first, workspace, out);
    }
  }

  void encode_word(std::string_view word, bool prefixed, size_t begin, EncodeWorkspace& workspace,
                   std::vector<TokenSpan>& out) const {
    if (const WordCache::Hit hit = workspace.cache.find(word, prefixed); hit.data != nullptr) {
      append_symbols(hit.data, hit.size, begin, out);
      return;
    }
    auto& symbols = workspace.symbols;
    symbols.clear();
    if (ignore_merges_) {
      std::string mapped = prefixed ? byte_characters()[' '] : std::string();
      for (const char byte : word) {
        mapped += byte_characters()[static_cast<unsigned char>(byte)];
      }
      if (const int32_t id = vocabulary_.find(mapped); id >= 0) {
        symbols.push_back({id, static_cast<uint32_t>(word.size())});
      }
    }
    if (symbols.empty()) {
      UnknownRun unknown(unk_id_, fuse_unk_);
      if (prefixed) {
        add(' ', 0, unknown, symbols);
      }
      for (const char byte : word) {
        add(byte, 1, unknown, symbols);
      }
      unknown.finish(symbols);
      bpe_.join(symbols, workspace.bpe);
    }
    append_symbols(symbols.data(), symbols.size(), begin, out);
    workspace.cache.insert(word, prefixed, symbols);
  }

  void add(char byte, uint32_t length, UnknownRun& unknown, std::vector<Symbol>& symbols) const {
    const int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
    if (id < 0) {
      unknown.add(length, symbols);
      return;
    }
    unknown.flush(symbols);
    symbols.push_back({id, length});
  }

  const Vocabulary& vocabulary_;
  Bpe bpe_;
  std::vector<SplitStep> splits_;
  std::optional<SplitPattern> gpt2_;
  int32_t unk_id_;
  bool fuse_unk_;
  bool ignore_merges_;
  bool add_prefix_space_;
  std::array<int32_t, 256> byte_ids_{};
};

}  // namespace

std::unique_ptr<SegmentEncoder> make_byte_level_encoder(TokenizerDefinition& definition) {
  return std::make_unique<ByteLevelEncoder>(definition);
}

}  // namespace phi3tune::data
